#!/usr/bin/env python3
"""Shoal against its peers on one GPU: the same shapes, the same batch, turn by turn.

  compare.py SHOAL_BINARY [--cases fine,fine4,coarse,small,kernels,hf] [--time-limit SECONDS]
             [--out FOLDER] [--rounds 2] [--skip-check]

First both sides must compute the same loss and gradients from the same weights (same_model.py).
Then each case runs Shoal, peer, Shoal, peer, each time in a process of its own. Real routing (what
an untrained router gives), random tokens, causal FLOPs; AdamW with fp32 states and clipping on both
sides; neither side recomputes anything unless its own configuration says so, and both may.
A figure is the median of all timed steps of a side. A case that the time limit cuts off before its
first round ends is left out; another call with the same --out adds to the table. Writes
results.json and table.md.
Needs torch, numpy and h5py; for `hf` transformers. The peers are in peers/.
"""
import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import shapes

HERE = Path(__file__).resolve().parent
INPUTS = shapes.ROOT / "inputs" / "bench"
FINE4 = {"training.global_batch_size": "32"}
KERNELS = {"training.global_batch_size": "16", "training.micro_batch_size": "16"}
# name: input file, keys over it, script of the peer (none: only Shoal runs)
CASES = {"fine": ("fine_grained", {}, "moe_torch.py"),
         "fine4": ("fine_grained", FINE4, "moe_torch.py"),
         "coarse": ("coarse", {}, "moe_torch.py"),
         "small": ("small", {}, "moe_torch.py"),
         "hf": ("fine_grained", {}, "moe_transformers.py"),
         "fine_bf16m": ("fine_grained", {"optim.state_dtype": "bf16"}, None),
         "fine4_amf": ("fine_grained", {**FINE4, "optim.kind": "amf"}, None),
         "kernels": ("fine_grained", KERNELS, "kernels.py")}
DEFAULT_CASES = "fine,fine4,coarse,small,kernels,hf"


class OutOfTime(Exception):
    """The time limit is reached."""


class Bench:
    """Runs both sides of a case."""

    def __init__(self, arguments):
        self.arguments, self.start = arguments, time.monotonic()
        self.folder = arguments.out
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self, command):
        left = None
        if self.arguments.time_limit:
            left = self.arguments.time_limit - (time.monotonic() - self.start)
            if left <= 1:
                raise OutOfTime
        # Compiled kernels are kept, so that a peer's second run starts sooner.
        text = shapes.run(command, timeout=left, OMP_NUM_THREADS="8",
                          TORCHINDUCTOR_CACHE_DIR=str(self.folder / "inductor"),
                          TORCHINDUCTOR_FX_GRAPH_CACHE="1")
        if text is None:
            raise OutOfTime
        return text

    def check(self, peers):
        results = []
        for precision in ("fp32", "bf16"):
            path = self.folder / "same_model.json"
            self.run([sys.executable, HERE / "same_model.py", self.arguments.binary,
                      "--device=cuda", f"--precision={precision}", f"--peers={','.join(peers)}",
                      f"--json={path}"])
            results += json.loads(path.read_text())
        return results

    def shoal(self, name):
        source, keys, peer = CASES[name]
        output = self.folder / f"{name}.json"
        kernels = ["--kernels"] if peer == "kernels.py" else []
        self.run([self.arguments.binary, "bench", INPUTS / f"{source}.ini", *kernels,
                  f"--bench.output={output}", *(f"--{key}={value}" for key, value in keys.items())])
        return json.loads(output.read_text())

    def peer(self, name):
        """All JSON lines that the peer prints."""
        source, keys, script = CASES[name]
        shape = self.folder / f"{name}.json"  # kernels: what Shoal wrote there
        if script != "kernels.py":
            shape = self.folder / "shape.json"
            values = {**shapes.read_keys(INPUTS / f"{source}.ini"), **keys}
            shape.write_text(json.dumps(shapes.shape_of(values)))
        text = self.run([sys.executable, HERE / "peers" / script, shape])
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def case(self, name):
        ours, theirs = [], []
        has_peer = CASES[name][2] is not None
        try:
            for _ in range(self.arguments.rounds):
                ours.append(self.shoal(name))
                if has_peer:
                    theirs.append(self.peer(name))
        except OutOfTime:
            if not ours or (has_peer and not theirs):
                raise  # fewer rounds than asked are still a comparison, half a round is none
        return kernels_of(ours, theirs) if name == "kernels" else step_of(ours, theirs)


def step_of(ours, theirs):
    """One row of steps: pooled medians, and memory, which does not change from run to run."""
    def side(runs):
        seconds = statistics.median(s for run in runs for s in run["all_seconds"])
        return dict(seconds=seconds, tokens_per_s=runs[0]["tokens"] / seconds,
                    rounds=[run["seconds"] for run in runs], memory=runs[-1]["memory_bytes"],
                    losses=runs[-1]["losses"][:4])
    row = dict(tokens=ours[0]["tokens"], flops=ours[0]["flops"], shoal=side(ours))
    row["shoal"]["share_of_product"] = (ours[0]["flops"] / row["shoal"]["seconds"]
                                        / ours[0]["ceilings"]["product_flops_per_s"])
    memory = row["shoal"]["memory"]
    memory["activations_and_workspace"] = memory["activations"] + memory["workspace"]
    if theirs:
        row["peer"] = side([lines[-1] for lines in theirs])
        row["peer"]["name"] = theirs[-1][-1]["peer"]
        row["ratio"] = row["peer"]["seconds"] / row["shoal"]["seconds"]
    return row


def kernels_of(ours, theirs):
    def key(figure):
        return json.dumps([figure["case"], figure["shape"]], sort_keys=True)
    rows = []
    for figure in ours[0]["kernels"]:
        mine = [f for run in ours for f in run["kernels"] if key(f) == key(figure)]
        others = [f for lines in theirs for f in lines
                  if key(f) == key(figure) and "seconds" in f]
        row = dict(figure, seconds=statistics.median(f["seconds"] for f in mine))
        if others:
            row["peer_seconds"] = statistics.median(f["seconds"] for f in others)
            row["way"] = others[-1]["way"]
            row["ratio"] = row["peer_seconds"] / row["seconds"]
        rows.append(row)
    return dict(kernels=rows, ceilings=ours[0]["ceilings"])


def gib(count):
    return f"{count / 2**30:.1f}"


def step_table(cases):
    lines = ["| step | Shoal, tokens/s (TFLOP/s, share of the product) | peer, tokens/s | ratio |"
             " peak GiB, Shoal; peer | ratio | activations and workspace | ratio |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name, row in cases.items():
        if "shoal" not in row:
            continue
        ours = row["shoal"]
        speed = row["flops"] / ours["seconds"] / 1e12
        cells = [name, f"{ours['tokens_per_s']:,.0f} ({speed:.0f}, "
                       f"{100 * ours['share_of_product']:.0f} %)"]
        # A case of Shoal alone stands beside the peer of the case that it varies.
        peer = row.get("peer") or cases.get(name.split("_")[0], {}).get("peer")
        if peer:
            cells += [f"{peer['tokens_per_s']:,.0f}", f"{peer['seconds'] / ours['seconds']:.2f}"]
        else:
            cells += ["", ""]
        for kind in ("total", "activations_and_workspace"):
            mine = ours["memory"][kind]
            cells += [f"{gib(mine)}; {gib(peer['memory'][kind])}",
                      f"{mine / peer['memory'][kind]:.2f}"] if peer else [gib(mine), ""]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def kernel_table(kernels):
    lines = ["| kernel | shape | Shoal, ms | TFLOP/s or TB/s (share) | peer, ms | ratio |",
             "| --- | --- | --- | --- | --- | --- |"]
    for row in kernels:
        shape = " ".join(f"{letter}{size}" for letter, size in row["shape"].items())
        work, share = ((row["flops"], row["share_of_product"]) if row["flops"] > 0
                       else (row["bytes"], row["share_of_copy"]))
        peer = (f"{1e3 * row['peer_seconds']:.3f} ({row['way']}) | {row['ratio']:.2f}"
                if "ratio" in row else " | ")
        lines.append(f"| {row['case']} | {shape} | {1e3 * row['seconds']:.3f} | "
                     f"{work / row['seconds'] / 1e12:.2f} ({100 * share:.0f} %) | {peer} |")
    return lines


def table(results):
    lines = [f"{results['device']}, {results['date']}, PyTorch {results['torch']}. A ratio above 1 "
             "says that Shoal is faster, for memory below 1 that it takes less."]
    for check in results.get("check", []):
        lines.append(f"Same model as {check['peer']} in {check['precision']}: "
                     f"{'yes' if check['agree'] else 'NO'}, loss within "
                     f"{check['loss_deviation']:.1e}, gradient within "
                     f"{check['gradient_deviation']:.1e}.")
    lines += ["", *step_table(results["cases"])]
    if "kernels" in results["cases"]:
        lines += ["", *kernel_table(results["cases"]["kernels"]["kernels"])]
    return "\n".join(lines) + "\n"


def save(folder, results):
    (folder / "results.json").write_text(json.dumps(results, indent=1))
    (folder / "table.md").write_text(table(results))


def earlier(folder, device):
    """Results of the same device in the folder, to add to."""
    path = folder / "results.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    return found if found.get("device") == device else {"cases": {}}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", type=Path)
    parser.add_argument("--cases", default=DEFAULT_CASES, help=", ".join(CASES))
    parser.add_argument("--time-limit", type=float, default=0, help="seconds; 0: none")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    parser.add_argument("--skip-check", action="store_true")
    arguments = parser.parse_args()
    arguments.binary = arguments.binary.resolve()
    wrong = [name for name in arguments.cases.split(",") if name not in CASES]
    if wrong:
        parser.error(f"no such case: {', '.join(wrong)}; there are {', '.join(CASES)}")
    return arguments


def main():
    arguments = parse_arguments()
    import torch
    device = torch.cuda.get_device_name()
    results = earlier(arguments.out, device)
    results |= dict(device=device, torch=torch.__version__, date=time.strftime("%Y-%m-%d"))
    bench = Bench(arguments)
    names = arguments.cases.split(",")
    try:
        if not arguments.skip_check:
            results["check"] = bench.check(["torch"] + (["transformers"] if "hf" in names else []))
        for name in names:
            results["cases"][name] = bench.case(name)
            save(bench.folder, results)
    except OutOfTime:
        print(f"out of time after {arguments.time_limit:.0f} s", file=sys.stderr)
    save(bench.folder, results)
    print(table(results))


if __name__ == "__main__":
    main()
