#!/usr/bin/env python3
"""Seconds from `mpirun` to the line of the first step, by the wall clock.

  scripts/bench/startup.py --shoal build/shoal --text FILE [--input inputs/smoke/tiny_cpu.ini]

Prepares FILE as bytes in a temporary folder, starts the input a few times and prints every time
and the median. The first step itself is included.
"""
import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def first_step(command):
    start, seconds = time.perf_counter(), None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if seconds is None and re.match(r"step +1/", line):
                seconds = time.perf_counter() - start
    if process.returncode != 0 or seconds is None:
        sys.exit(f"{' '.join(command)} ended with exit code {process.returncode}")
    return seconds


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--shoal", required=True, help="the binary")
    p.add_argument("--text", required=True, help="a text file of some 100 kB at least")
    p.add_argument("--input", default=str(ROOT / "inputs/smoke/tiny_cpu.ini"))
    p.add_argument("--ranks", type=int, default=2)
    p.add_argument("--times", type=int, default=7)
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/data"
        subprocess.run([a.shoal, "prepare", a.text, "--tokenizer=bytes", "--val_split=tail",
                        "--val_fraction=0.1", f"--output={data}"], check=True, capture_output=True)
        seconds = [first_step(["mpirun", "--oversubscribe", "-np", str(a.ranks), a.shoal, "train",
                               a.input, "--training.steps=2", f"--run_dir={folder}/run{i}",
                               f"--data.train={data}/train", f"--data.validation={data}/val",
                               "--eval.max_windows=2"]) for i in range(a.times)]
    print(" ".join(f"{s:.2f}" for s in seconds))
    print(f"median {statistics.median(seconds):.2f} s; load of this machine {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
