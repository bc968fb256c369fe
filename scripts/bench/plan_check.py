#!/usr/bin/env python3
"""The plan's step time against a measured one, on CPU ranks with one core each.

For each number of ranks among the layouts: `shoal bench --calibrate` on so many ranks, then for each
layout `shoal plan` with that calibration and a real run, turn by turn over some rounds. The best
prediction and the best step count: other work on the machine only ever adds time. The load of the
machine is printed at the start and at the end; above the number of ranks the figures say little.

Usage: plan_check.py SHOAL_BINARY [LAYOUT ...] [--size small|medium] [--rounds 3] [--tolerance 25]
A layout is a list of keys of [parallel] and np: "np=1", "np=2", "np=2,tp=2", "np=2,pp=2,micro=2",
"np=2,ep=2"; micro is training.micro_batch_size. Needs h5py. Exits 1 beyond the tolerance.
"""
import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py

MODEL = """[model]
vocab_size = {vocab}
hidden_size = {hidden}
num_hidden_layers = 4
num_attention_heads = 4
num_key_value_heads = 2
head_dim = {head}
max_position_embeddings = 256
num_experts = 8
num_experts_per_tok = 2
moe_intermediate_size = {width}
cross_document = true
[data]
train = {folder}/data/train
[optim]
kind = adamw
[training]
seq_len = 128
global_batch_size = 16
steps = 10
device = cpu
threads = 1
[checkpoint]
interval = 0
[metrics]
router_interval = 0
"""
SIZES = {"small": dict(vocab=512, hidden=128, head=32, width=256),
         "medium": dict(vocab=2048, hidden=256, head=64, width=512)}
SECONDS = {"s": 1.0, "ms": 1e-3}


class Bench:
    def __init__(self, arguments, folder):
        self.binary, self.mpirun, self.folder = arguments.binary, arguments.mpirun, Path(folder)
        self.ini = self.folder / "check.ini"
        self.ini.write_text(MODEL.format(folder=folder, **SIZES[arguments.size]))
        self.runs = 0
        generator = random.Random(1)
        (self.folder / "random.txt").write_text(
            "".join(chr(generator.randrange(32, 127)) for _ in range(200_000)))
        self.shoal(1, "prepare", self.folder / "random.txt", "--tokenizer=bytes", "--val_fraction=0",
                   "--max_badness=0", f"--output={folder}/data")

    def shoal(self, ranks, *words):
        launch = [] if ranks == 1 else [self.mpirun, "--bind-to", "core", "-np", str(ranks)]
        environment = dict(os.environ, OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1",
                           OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        result = subprocess.run([*launch, self.binary, *map(str, words)], capture_output=True,
                                text=True, env=environment)
        if result.returncode != 0:
            raise SystemExit(result.stdout + result.stderr)
        return result.stdout

    def calibrate(self, ranks):
        output = self.folder / f"calibration-{ranks}.json"
        self.shoal(ranks, "bench", "--calibrate", "--device=cpu", "--precision=fp32",
                   f"--output={output}")
        return output

    def predict(self, layout, calibration):
        text = self.shoal(1, "plan", self.ini, f"--ranks={layout['np']}", *keys(layout),
                          f"--calibration={calibration}", f"--gpus_per_node={layout['np']}")
        value, unit = re.search(r"^  step +([\d.]+) (ms|s),", text.split("predicted")[1], re.M).groups()
        return float(value) * SECONDS[unit]

    def measure(self, layout):
        self.runs += 1
        run_dir = self.folder / f"run{self.runs}"
        self.shoal(layout["np"], "train", self.ini, *keys(layout), f"--run_dir={run_dir}",
                   "--restart=none")
        with h5py.File(run_dir / "metrics.h5") as file:
            return min(float(s) for s in file["train/seconds_step"][2:])


def keys(layout):
    words = [f"--parallel.{key}={value}" for key, value in layout.items()
             if key not in ("np", "micro")]
    return words + ([f"--training.micro_batch_size={layout['micro']}"] if "micro" in layout else [])


def parse_layout(text):
    layout = dict(pair.split("=", 1) for pair in text.split(","))
    layout["np"] = int(layout.get("np", 1))
    return layout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("layouts", nargs="*", default=["np=1,micro=4", "np=1", "np=2"])
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=25.0, help="per cent")
    parser.add_argument("--mpirun", default="mpirun")
    arguments = parser.parse_args()
    worst, load = 0.0, [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, folder)
        predicted, measured = {}, {}
        for _ in range(arguments.rounds):
            for text in arguments.layouts:
                layout = parse_layout(text)
                prediction = bench.predict(layout, bench.calibrate(layout["np"]))
                predicted[text] = min(prediction, predicted.get(text, prediction))
                seconds = bench.measure(layout)
                measured[text] = min(seconds, measured.get(text, seconds))
    load.append(os.getloadavg()[0])
    print("| layout | predicted, ms | measured, ms | deviation |\n| --- | --- | --- | --- |")
    for text in arguments.layouts:
        deviation = 100.0 * (predicted[text] / measured[text] - 1.0)
        worst = max(worst, abs(deviation))
        print(f"| {text} | {1e3 * predicted[text]:.2f} | {1e3 * measured[text]:.2f} | "
              f"{deviation:+.1f} % |")
    print(f"largest deviation {worst:.1f} %, allowed {arguments.tolerance:.0f} %; "
          f"load {load[0]:.1f} to {load[1]:.1f}")
    return 1 if worst > arguments.tolerance else 0


if __name__ == "__main__":
    sys.exit(main())
