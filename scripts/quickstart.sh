#!/usr/bin/env bash
# From a fresh clone to a trained Mixture of Experts in under ten minutes on two cores: installs what
# is missing, builds, prepares the text that every Debian machine holds, trains, validates, saves,
# and generates a sample.
#   scripts/quickstart.sh                  this machine's documentation, man pages and headers
#   scripts/quickstart.sh --corpus DIR     your own files: txt, jsonl with a text field, gz, zst
# QUICKSTART_STEPS (300), QUICKSTART_DIR (runs/quickstart) and SHOAL_JOBS (all cores) change the run.
set -euo pipefail
cd "$(dirname "$0")/.."

corpus=""
while [ $# -gt 0 ]; do
  case "$1" in
    --corpus) corpus=${2:?--corpus needs a folder}; shift ;;
    *) echo "unknown argument: $1 (known: --corpus DIR)" >&2; exit 2 ;;
  esac
  shift
done
if [ -n "$corpus" ] && [ ! -e "$corpus" ]; then
  echo "no such file or folder: $corpus" >&2
  exit 2
fi

work=${QUICKSTART_DIR:-runs/quickstart}
steps=${QUICKSTART_STEPS:-300}
jobs=${SHOAL_JOBS:-$(nproc)}
build=build
start=$SECONDS
step() { printf '\n== %d:%02d  %s\n' $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60)) "$1"; }

step "packages"
scripts/install_packages.sh

gpu=0
if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then gpu=1; fi
cuda=()
if [ "$gpu" -eq 1 ]; then
  echo "GPU: $(nvidia-smi -L | head -n 1)"
else
  # Kernels that cannot run here would take most of the build; scripts/test.sh compiles them too.
  echo "no GPU here: building the CPU back end only"
  build=build-cpu
  cuda=(-DSHOAL_CUDA=OFF)
fi

step "build (target shoal)"
cmake -S . -B "$build" -G Ninja "${cuda[@]}" | grep -E '^-- (The CXX|shoal|Found (MPI|HDF5|Boost))' || true
cmake --build "$build" -j "$jobs" --target shoal
shoal=$PWD/$build/shoal
"$shoal" --version

# MPI refuses to start as root unless told twice; containers run as root.
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
ranks=2
if [ "$gpu" -eq 1 ]; then ranks=1; fi
threads=$(($(nproc) / ranks))
export OMP_NUM_THREADS=$((threads > 0 ? threads : 1))
# Ranks that wait must not take the core of one that works.
export OMPI_MCA_mpi_yield_when_idle=1
launch=(mpirun --oversubscribe --bind-to none -np "$ranks")

step "text"
rm -rf "$work"
mkdir -p "$work"
if [ -n "$corpus" ]; then
  inputs=("$corpus")
else
  # About 24 MB out of what is there, the same files every time.
  list=$work/files.txt
  for folder in /usr/share/common-licenses /usr/share/doc /usr/share/man/man1 /usr/share/man/man7 \
      /usr/include; do
    [ ! -d "$folder" ] || find "$folder" -type f -size -400k \
      \( -name '*.txt*' -o -name '*.md*' -o -name '*.[1-9].gz' -o -name 'README*' \
      -o -name 'copyright' -o -name 'changelog*' -o -name '*.h' -o -name '*.hpp' \
      -o -path '*common-licenses*' \) -printf '%s %p\n'
  done | sort -k2 | awk '{ used += $1; if (used < 24e6) print $2 }' >"$list"
  [ -s "$list" ] || { echo "found no text on this machine; give --corpus DIR" >&2; exit 1; }
  echo "$(wc -l <"$list") files of documentation, man pages, licences and headers"
  mkdir -p "$work/text"
  xargs -a "$list" -d '\n' cp --backup=numbered -t "$work/text"
  inputs=("$work/text")
fi

step "prepare: clean, train a tokenizer of 4096 ids, tokenise"
"${launch[@]}" "$shoal" prepare "${inputs[@]}" --output="$work/data" \
  --tokenizer.vocab_size=4096 --train_sample_mb=8 --val_fraction=0.02

step "train: $steps steps on $ranks MPI rank(s)"
options=(--data.train="$work/data/train" --data.validation="$work/data/val"
  --run_dir="$work/run" --steps="$steps")
if [ "$gpu" -eq 1 ]; then options+=(--precision=bf16 --device=cuda); else options+=(--device=cpu); fi
"${launch[@]}" "$shoal" train inputs/train/quickstart.ini "${options[@]}"

step "validate"
"${launch[@]}" "$shoal" eval "$work/run" --dataset="$work/data/val" --seq_len=128 --max_windows=64

step "generate"
"$shoal" generate "$work/run" --prompt="This file is part of" --max_tokens=80 --temperature=0.8 \
  --top_k=40 --seed=1

step "done"
cat <<END
  the model           $work/run (shoal inspect $work/run)
  its curves          $work/run/metrics.h5; scripts/plot/plot_run.py $work/run (needs h5py, matplotlib:
                      scripts/install_packages.sh --plots)
  weights with h5py   h5py.File("$work/run/$(basename "$(find "$work/run" -maxdepth 1 -name 'step-*' | sort | tail -n 1)")/index.h5")["weights"]
  train longer        mpirun -np $ranks $build/shoal train inputs/train/quickstart.ini --steps=2000 \\
                        --data.train=$work/data/train --data.validation=$work/data/val --run_dir=$work/longer
  every key           inputs/README.md; every command: $build/shoal help
  the code            src/README.md
END
