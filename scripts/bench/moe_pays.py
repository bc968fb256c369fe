#!/usr/bin/env python3
"""How many times more active parameters a dense model needs for the loss of a Mixture of Experts.

  scripts/bench/moe_pays.py --shoal build/shoal [--corpus DIR ...] [--seeds 1,2] [--jobs 1]

Prepares the text (by default this machine's documentation, man pages and headers) once, then trains
inputs/bench/moe_pays.ini and its dense twins of 1, 2 and 4 times the active size, each on the same
tokens, with every seed. Active means the parameters of the layers that a token visits; embedding and
output head are left out. Finished runs are kept, so that it can be stopped and continued. The last
validation losses go to a table and to result.json. Needs h5py.
"""
import argparse
import concurrent.futures
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time

import h5py

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORPUS = ["/usr/share/doc", "/usr/share/man", "/usr/include"]
DEPTH = 6
# Twins have the depth and head width of the MoE; width, heads and MLP give the size.
TWINS = {
    "moe": {},
    "dense 1x": dict(num_experts=1, hidden_size=256, num_attention_heads=4,
                     num_key_value_heads=2, intermediate_size=512),
    "dense 2x": dict(num_experts=1, hidden_size=384, num_attention_heads=6,
                     num_key_value_heads=3, intermediate_size=640),
    "dense 4x": dict(num_experts=1, hidden_size=512, num_attention_heads=8,
                     num_key_value_heads=4, intermediate_size=1024),
}


def layer_parameters(twin):
    """Weights of attention and MLP of all layers of a dense twin."""
    width, heads, groups = (twin[k] for k in ("hidden_size", "num_attention_heads",
                                              "num_key_value_heads"))
    return DEPTH * width * (64 * (2 * heads + 2 * groups) + 3 * twin["intermediate_size"])


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--shoal", required=True, help="the binary")
    p.add_argument("--input", default=str(ROOT / "inputs/bench/moe_pays.ini"))
    p.add_argument("--corpus", nargs="+", default=CORPUS, help="files and folders of text")
    p.add_argument("--prepare", default="", help="launcher of prepare, e.g. 'mpirun -np 8'")
    p.add_argument("--out", default="runs/moe-pays")
    p.add_argument("--seeds", default="1,2")
    p.add_argument("--twins", default=",".join(TWINS), help="which models, smallest twin first")
    p.add_argument("--set", action="append", default=[], help="key=value for all runs")
    p.add_argument("--jobs", type=int, default=1, help="runs at a time")
    return p.parse_args()


def prepare(a):
    data = pathlib.Path(a.out) / "data"
    if (data / "report.json").exists():
        return data
    data.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*a.prepare.split(), a.shoal, "prepare", *a.corpus, f"--output={data}",
                    "--tokenizer.vocab_size=8192", "--train_sample_mb=64"], check=True)
    return data


def last_loss(run_dir):
    """The last validation loss of a finished run, or None."""
    if not (run_dir / "done").exists():
        return None
    with h5py.File(run_dir / "metrics.h5") as f:
        return float(f["validation/loss"][-1])


def train(a, data, name, seed):
    run_dir = pathlib.Path(a.out) / f"{name.replace(' ', '-')},seed={seed}"
    if last_loss(run_dir) is not None:
        return last_loss(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    options = [f"model.{key}={value}" for key, value in TWINS[name].items()]
    options += [f"training.seed={seed}", f"training.run_dir={run_dir}", "checkpoint.restart=none",
                f"data.train={data}/train", f"data.validation={data}/val", *a.set]
    with open(run_dir / "log.txt", "w") as log:
        code = subprocess.run([a.shoal, "train", a.input, *("--" + o for o in options)], stdout=log,
                              stderr=subprocess.STDOUT, env={"OMP_NUM_THREADS": "1", **os.environ}
                              ).returncode
    if code == 0:
        (run_dir / "done").touch()
    else:
        print(f"moe_pays: {run_dir} ended with exit code {code}, see log.txt", flush=True)
    return last_loss(run_dir)


def size_for(loss, sizes, losses):
    """Active size at which the dense twins reach `loss`: straight lines in log(size), smallest twin
    first; outside the twins the nearest line goes on. None where more parameters did not help."""
    if any(low >= high for high, low in zip(losses, losses[1:])):
        return None
    logs = [math.log(size) for size in sizes]
    at = next((i for i, low in enumerate(losses[1:]) if loss >= low), len(losses) - 2)
    slope = (logs[at + 1] - logs[at]) / (losses[at] - losses[at + 1])
    return math.exp(logs[at] + slope * (losses[at] - loss))


def report(a, results):
    means = {}
    print("| model | active M | " + " | ".join(f"seed {s}" for s in a.seeds.split(",")) + " | mean |")
    print("| --- " * (len(a.seeds.split(",")) + 3) + "|")
    for name in a.twins.split(","):
        values = [results[(name, seed)] for seed in a.seeds.split(",")]
        good = [v for v in values if v is not None]
        means[name] = statistics.mean(good) if good else None
        size = layer_parameters(TWINS["dense 1x" if name == "moe" else name]) / 1e6
        cells = ["failed" if v is None else f"{v:.4f}" for v in values + [means[name]]]
        print(f"| {name} | {size:.2f} | " + " | ".join(cells) + " |")
    dense = [name for name in means if name != "moe" and means[name] is not None]
    if means.get("moe") is None or len(dense) < 2:
        return
    sizes, losses = [layer_parameters(TWINS[n]) for n in dense], [means[n] for n in dense]
    size = size_for(means["moe"], sizes, losses)
    if size is None:
        print("the dense twins do not get better with size: no ratio")
        return
    beyond = "" if losses[-1] <= means["moe"] <= losses[0] else " (extrapolated beyond the twins)"
    ratio = size / layer_parameters(TWINS["dense 1x"])
    print(f"a dense model needs {ratio:.1f} times the active parameters for the loss of the MoE{beyond}")


def main():
    a = arguments()
    data = prepare(a)
    points = [(name, seed) for seed in a.seeds.split(",") for name in a.twins.split(",")]
    start, results = time.time(), {}
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        futures = {pool.submit(train, a, data, *point): point for point in points}
        for future in concurrent.futures.as_completed(futures):
            results[futures[future]] = future.result()
            print(f"{futures[future]}: {future.result()} ({time.time() - start:.0f} s)", flush=True)
    with open(pathlib.Path(a.out) / "result.json", "w") as f:
        json.dump([{"model": n, "seed": s, "loss": v} for (n, s), v in sorted(results.items())], f,
                  indent=1)
    report(a, results)


if __name__ == "__main__":
    sys.exit(main())
