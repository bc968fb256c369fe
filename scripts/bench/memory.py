#!/usr/bin/env python3
"""Memory of a training step in bf16 against fp32, at the micro-batches asked for.

  scripts/bench/memory.py build/shoal inputs/train/moe_100m.ini --micro 4,8,16 --vocab 32000

The figures are those of `shoal plan`: the step itself on a dry Exec, so every byte that the arena
hands out is counted and nothing is estimated. Needs no GPU and no data.
"""
import argparse
import re
import subprocess
import sys

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
PARTS = ("weights", "gradients", "optimizer", "saved activations", "scratch", "total")


def plan(shoal, source, *options):
    command = [shoal, "plan", source, "--training.device=cuda", "--ranks=1", *options]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{run.stdout}{run.stderr}")
    memory = run.stdout.split("memory of each rank")[1]
    found = dict.fromkeys(PARTS, 0.0)
    for part in PARTS:
        match = re.search(rf"^ +{part} +([0-9.]+) (\w+)", memory, re.MULTILINE)
        if match:
            found[part] = float(match[1]) * UNITS[match[2]]
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("shoal", help="the binary")
    p.add_argument("input", help="an input file")
    p.add_argument("--micro", default="8", help="sequences of a micro-batch, comma-separated")
    p.add_argument("--vocab", default="32000")
    p.add_argument("--kind", default="adamw", help="optimizer")
    a = p.parse_args()
    print("| sequences a pass | what | fp32 GiB | bf16 GiB | bf16 / fp32 |\n| --- | --- | --- | --- | --- |")
    for micro in a.micro.split(","):
        common = (f"--model.vocab_size={a.vocab}", f"--optim.kind={a.kind}",
                  f"--training.micro_batch_size={micro}")
        both = [plan(a.shoal, a.input, *common, f"--training.precision={p}") for p in ("fp32", "bf16")]
        rows = {
            "activations and workspace": [m["saved activations"] + m["scratch"] for m in both],
            "step without optimizer state": [m["total"] - m["optimizer"] for m in both],
            "whole step": [m["total"] for m in both],
        }
        for what, (full, half) in rows.items():
            print(f"| {micro} | {what} | {full / 2**30:.2f} | {half / 2**30:.2f} | {half / full:.1%} |")


if __name__ == "__main__":
    main()
