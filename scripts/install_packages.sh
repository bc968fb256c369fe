#!/usr/bin/env bash
# Installs the Debian packages that Shoal is built with; skips those that are there already.
#   scripts/install_packages.sh            build, tests and lints
#   scripts/install_packages.sh --build    only what the program itself is built with
#   scripts/install_packages.sh --plots    also h5py and matplotlib, for scripts/plot
#   scripts/install_packages.sh --check    installs nothing; fails when something is missing
set -euo pipefail

build=(cmake ninja-build g++ pkg-config ccache python3
  libopenmpi-dev openmpi-bin libhdf5-dev libboost-program-options-dev libopenblas-openmp-dev
  libzstd-dev zlib1g-dev libdeflate-dev nlohmann-json3-dev libicu-dev libxxhash-dev libpcre2-dev)
tests=(libgtest-dev clang-format clang-tidy)
plots=(python3-h5py python3-matplotlib)

packages=("${build[@]}" "${tests[@]}")
check_only=0
for argument in "$@"; do
  case "$argument" in
    --build) packages=("${build[@]}") ;;
    --plots) packages+=("${plots[@]}") ;;
    --check) check_only=1 ;;
    *) echo "unknown argument: $argument (known: --build --plots --check)" >&2; exit 2 ;;
  esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "This is not a Debian system: no packages installed. CMake names what it does not find;" >&2
  echo "README.md, \"On a cluster\", lists what the build needs." >&2
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "packages: all ${#packages[@]} are installed"
  exit 0
fi
echo "packages: ${#missing[@]} missing: ${missing[*]}"
[ "$check_only" -eq 0 ] || exit 1

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "Cannot install: neither root nor sudo. Ask an administrator to run:" >&2
    echo "  apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    -o Dpkg::Use-Pty=0 "${missing[@]}"
}
# The package lists may be absent (containers) or stale: refresh them once, then try again.
if ! install; then
  "${as_root[@]}" apt-get update || true
  if ! install; then
    echo "Cannot install: is there a network, and may this account use apt-get? Missing:" >&2
    echo "  ${missing[*]}" >&2
    exit 1
  fi
fi
