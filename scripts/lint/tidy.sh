#!/usr/bin/env bash
# clang-tidy over src/**/*.cpp with .clang-tidy; every finding fails.
#   tidy.sh BUILD_DIR           files that differ from the main branch, at most 24 of them
#   tidy.sh BUILD_DIR --all     every file
#   tidy.sh BUILD_DIR FILE...   these
# BUILD_DIR holds compile_commands.json (any configured build).
set -euo pipefail
cd "$(dirname "$0")/../.."
build_dir=${1:?usage: tidy.sh BUILD_DIR [--all | FILE...]}
shift
max_files=24
if [ ! -f "$build_dir/compile_commands.json" ]; then
  echo "tidy: no compile_commands.json in $build_dir: configure it first" >&2
  exit 1
fi

git_here() { git -c safe.directory="$PWD" "$@"; }
changed_files() {
  # What this branch changed; on the main branch itself, what the last commits changed.
  local base
  base=$(git_here merge-base HEAD origin/main 2>/dev/null || git_here merge-base HEAD main 2>/dev/null || true)
  if [ -z "$base" ] || [ "$base" = "$(git_here rev-parse HEAD)" ]; then
    base=$(git_here rev-parse -q --verify HEAD~5 || git_here hash-object -t tree /dev/null)
  fi
  git_here diff --name-only --diff-filter=d "$base" -- 'src/*.cpp' | head -n "$max_files"
}

if [ "${1:-}" = --all ]; then
  mapfile -t files < <(find src -name '*.cpp' | sort)
elif [ $# -gt 0 ]; then
  files=("$@")
else
  mapfile -t files < <(changed_files)
fi
if [ ${#files[@]} -eq 0 ]; then
  echo "tidy: no source file changed"
  exit 0
fi
echo "tidy: ${#files[@]} files"
printf '%s\n' "${files[@]}" | xargs -n 1 -P "$(nproc)" clang-tidy -p "$build_dir" --quiet \
  --extra-arg=-Wno-unknown-warning-option \
  --extra-arg=-include --extra-arg="$PWD/scripts/lint/tidy_prelude.hpp"
echo "tidy: clean"
