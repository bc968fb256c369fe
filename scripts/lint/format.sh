#!/usr/bin/env bash
# Fails when clang-format would change a source file; `format.sh --fix` lets it.
set -euo pipefail
cd "$(dirname "$0")/../.."
mode=(--dry-run -Werror)
[ "${1:-}" != --fix ] || mode=(-i)
if ! command -v clang-format >/dev/null; then
  echo "format: clang-format is not installed (scripts/install_packages.sh)" >&2
  exit 1
fi
find include src tests -name '*.[ch]pp' -o -name '*.cu' -o -name '*.cuh' | sort |
  xargs -r -n 32 -P "$(nproc)" clang-format "${mode[@]}"
echo "format: clean"
