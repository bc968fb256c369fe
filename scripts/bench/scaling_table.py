#!/usr/bin/env python3
"""The table of jobs/scaling.slurm: tokens a second and efficiency of each run, from metrics.h5.

Usage: scaling_table.py FOLDER
FOLDER holds one run folder MODE-NODES for each run, with a file `ranks` beside its metrics.h5.
Efficiency is the speed of a rank against that of the smallest run of the same mode. The first steps
warm up and do not count. Needs h5py.
"""
import statistics
import sys
from pathlib import Path

import h5py

WARM_UP = 3


def read_run(folder):
    """(ranks, tokens/s, seconds a step) of one run; None when it did not finish."""
    if not (folder / "ranks").exists() or not (folder / "metrics.h5").exists():
        return None
    with h5py.File(folder / "metrics.h5") as file:
        seconds = [float(x) for x in file["train/seconds_step"][:]]
        speed = [float(x) for x in file["train/tokens_per_second"][:]]
    skip = min(WARM_UP, len(speed) - 1)
    if not speed:
        return None
    return (int((folder / "ranks").read_text()), statistics.median(speed[skip:]),
            statistics.median(seconds[skip:]))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    runs = {}
    for folder in Path(sys.argv[1]).iterdir():
        mode, _, nodes = folder.name.rpartition("-")
        if mode and nodes.isdigit() and (run := read_run(folder)):
            runs.setdefault(mode, []).append((int(nodes), *run))
    if not runs:
        sys.exit(f"{sys.argv[1]}: no finished run")
    print("| scaling | nodes | ranks | step, s | tokens/s | tokens/s a rank | efficiency |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for mode in sorted(runs, reverse=True):
        first = None
        for nodes, ranks, speed, seconds in sorted(runs[mode]):
            first = first or speed / ranks
            print(f"| {mode} | {nodes} | {ranks} | {seconds:.3f} | {speed:,.0f} | "
                  f"{speed / ranks:,.0f} | {100 * speed / ranks / first:.1f} % |")


if __name__ == "__main__":
    main()
