#!/usr/bin/env bash
# Installs what is missing, builds everything and runs all tests; the last lines are ctest's own.
#   scripts/test.sh                all tests (those that need a GPU skip where there is none)
#   scripts/test.sh --gpu-only     only the tests that use the GPU
#   scripts/test.sh --filter REGEX only the tests whose name matches
# SHOAL_BUILD_DIR (build), SHOAL_JOBS (all cores) and SHOAL_CMAKE_ARGS ("") change the build.
set -euo pipefail
cd "$(dirname "$0")/.."

build_dir=${SHOAL_BUILD_DIR:-build}
jobs=${SHOAL_JOBS:-$(nproc)}
read -r -a cmake_args <<<"${SHOAL_CMAKE_ARGS:-}"
ctest_args=()
gpu_only=0
while [ $# -gt 0 ]; do
  case "$1" in
    --gpu-only) gpu_only=1 ;;
    --filter) ctest_args+=(-R "${2:?--filter needs a regular expression}"); shift ;;
    *) echo "unknown argument: $1 (known: --gpu-only --filter REGEX)" >&2; exit 2 ;;
  esac
  shift
done

if [ "$gpu_only" -eq 1 ]; then
  # Test binaries hold CPU and GPU cases side by side; GPU cases have "cuda" or "Gpu" in their name.
  export GTEST_FILTER='*cuda*:*Cuda*:*Gpu*'
  ctest_args+=(-LE 'lint|cpu')
fi

scripts/install_packages.sh
cmake -S . -B "$build_dir" -G Ninja "${cmake_args[@]}"
cmake --build "$build_dir" -j "$jobs"
# Tests share the cores with each other (PROCESSORS in their properties), so -j is the core count.
exec ctest --test-dir "$build_dir" --no-tests=error --output-on-failure -j "$jobs" "${ctest_args[@]}"
