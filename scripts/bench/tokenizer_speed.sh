#!/bin/bash
# How many MB/s one core cleans and tokenises: trains a 32000-token vocabulary on the text files of
# this machine's documentation and headers (or of FOLDER...) and runs over them, timed in processor
# seconds. usage: scripts/bench/tokenizer_speed.sh BUILD_FOLDER [FOLDER...]
set -euo pipefail

build=${1:?usage: $0 BUILD_FOLDER [FOLDER...]}
shift
[ $# -gt 0 ] || set -- /usr/include /usr/share/doc
tool=$build/tests/text/tokenizer_tool
[ -x "$tool" ] || { echo "$tool is missing: build the target tokenizer_tool" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# As many files as one command line takes; every n-th, so that all folders are there.
find "$@" -type f \( -name '*.h' -o -name '*.hpp' -o -name '*.txt' -o -name '*.html' -o -name copyright \) \
  | sort > "$work/all"
every=$(( ($(wc -l < "$work/all") + 5999) / 6000 ))
awk -v every="$every" 'NR % every == 0' "$work/all" > "$work/files"
echo "$(wc -l < "$work/files") files"
xargs -s 1900000 "$tool" train 32000 llama3 < "$work/files" > "$work/tokenizer.json"
xargs -s 1900000 "$tool" speed "$work/tokenizer.json" < "$work/files"
