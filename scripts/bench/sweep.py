#!/usr/bin/env python3
"""Trains one input file over a grid of options and seeds and tabulates the last validation loss.

  scripts/bench/sweep.py --shoal build/shoal --input inputs/bench/shakespeare_cpu.ini \
      --rows optim.kind=amf,adamw --columns optim.lr=1e-3,2e-3,4e-3,8e-3 --seeds 1,2,3 --jobs 2

Each run gets a folder of its own under --out and is skipped when it is already done there, so that
a sweep can be stopped and continued. The table gives mean and standard deviation over seeds;
result.json keeps every number. Needs h5py.
"""
import argparse
import concurrent.futures
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time


def parse_axis(text):
    key, _, values = text.partition("=")
    if not values:
        sys.exit(f"sweep: '{text}' is not key=value,value,...")
    return key, values.split(",")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--shoal", required=True, help="the binary")
    p.add_argument("--input", required=True, help="input file of all runs")
    p.add_argument("--rows", required=True, type=parse_axis, help="key=value,... one row a value")
    p.add_argument("--columns", required=True, type=parse_axis, help="key=value,... one column a value")
    p.add_argument("--seeds", default="1,2,3")
    p.add_argument("--set", action="append", default=[], help="key=value for all runs")
    p.add_argument("--out", default="runs/sweep")
    p.add_argument("--jobs", type=int, default=1, help="runs at a time")
    p.add_argument("--threads", type=int, default=1, help="CPU threads of a run")
    return p.parse_args()


def last_loss(run_dir):
    """The last validation loss of a finished run, or None."""
    import h5py
    path = run_dir / "metrics.h5"
    if not (run_dir / "done").exists() or not path.exists():
        return None
    with h5py.File(path) as f:
        losses = f["validation/loss"][:]
    return float(losses[-1]) if len(losses) else None


def train(a, row, column, seed):
    run_dir = pathlib.Path(a.out) / f"{a.rows[0]}={row},{a.columns[0]}={column},seed={seed}"
    if last_loss(run_dir) is not None:
        return last_loss(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    options = [f"{a.rows[0]}={row}", f"{a.columns[0]}={column}", f"training.seed={seed}",
               f"training.run_dir={run_dir}", f"training.threads={a.threads}",
               "checkpoint.restart=none", *a.set]
    with open(run_dir / "log.txt", "w") as log:
        code = subprocess.run([a.shoal, "train", a.input, *options], stdout=log,
                              stderr=subprocess.STDOUT,
                              env={**os.environ, "OMP_NUM_THREADS": str(a.threads)}).returncode
    if code == 0:
        (run_dir / "done").touch()
    else:
        print(f"sweep: {run_dir} ended with exit code {code}, see log.txt", flush=True)
    return last_loss(run_dir)


def cell(values):
    good = [v for v in values if v is not None]
    if not good:
        return "failed"
    spread = f" ± {statistics.stdev(good):.4f}" if len(good) > 1 else ""
    return f"{statistics.mean(good):.4f}{spread}" + (f" ({len(good)} of {len(values)})"
                                                     if len(good) < len(values) else "")


def main():
    a = arguments()
    seeds = a.seeds.split(",")
    grid = list(itertools.product(a.rows[1], a.columns[1], seeds))
    start, results = time.time(), {}
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        futures = {pool.submit(train, a, *point): point for point in grid}
        for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
            results[futures[future]] = future.result()
            print(f"[{done}/{len(grid)}] {' '.join(futures[future])}: {future.result()} "
                  f"({time.time() - start:.0f} s)", flush=True)
    with open(pathlib.Path(a.out) / "result.json", "w") as f:
        json.dump([{a.rows[0]: r, a.columns[0]: c, "seed": s, "loss": v}
                   for (r, c, s), v in sorted(results.items())], f, indent=1)
    print(f"| {a.rows[0]} \\ {a.columns[0]} | " + " | ".join(a.columns[1]) + " |")
    print("| --- " * (len(a.columns[1]) + 1) + "|")
    for row in a.rows[1]:
        cells = [cell([results[(row, column, s)] for s in seeds]) for column in a.columns[1]]
        print(f"| {row} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
