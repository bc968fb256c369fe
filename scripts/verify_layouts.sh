#!/usr/bin/env bash
# Holds layouts to one rank: the whole product of layouts, schedules, recompute modes, routers and
# model options on 8 ranks (38400 rows), or as many as the time allows, in an order that the seed
# shuffles. CI runs every pair of options: ctest -R layout_matrix.
#   scripts/verify_layouts.sh [SECONDS] [SEED]      0 seconds: all of them, some hours
#   DEVICE=cuda scripts/verify_layouts.sh 60        ranks share the GPUs that are there
set -euo pipefail
cd "$(dirname "$0")/.."
build=${SHOAL_BUILD_DIR:-build}
cmake -S . -B "$build" -G Ninja >/dev/null
cmake --build "$build" -j "$(nproc)" --target layout_matrix
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
export OMP_NUM_THREADS=1 OMPI_MCA_mpi_yield_when_idle=1
exec mpirun --oversubscribe -np 8 "$build/tests/layout/layout_matrix" all "${DEVICE:-cpu}" \
  "${1:-0}" "${2:-1}"
