#!/usr/bin/env python3
"""`shoal bench` from the outside: what it writes for scripts is there, positive and consistent.

Usage: bench_test.py SHOAL_BINARY [MPIRUN]
"""
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SHOAL = str(Path(sys.argv[1]).resolve())
MPIRUN = sys.argv[2] if len(sys.argv) > 2 else "mpirun"
ENVIRONMENT = dict(os.environ, OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1",
                   OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_mpi_yield_when_idle="1")
VOCABULARY = 96
SMALL = f"""[model]
vocab_size = {VOCABULARY}
hidden_size = 32
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 16
max_position_embeddings = 64
num_experts = 4
num_experts_per_tok = 2
moe_intermediate_size = 48
[training]
seq_len = 32
global_batch_size = 4
micro_batch_size = 2
device = cpu
"""
KERNELS = {"qkv_forward", "qkv_dgrad", "qkv_wgrad_add", "o_proj_forward", "gather", "up_swiglu",
           "down", "combine", "down_dgrad", "swiglu_backward", "up_dgrad", "up_wgrad",
           "down_wgrad_add", "moe_forward", "moe_backward", "router_forward", "router_backward",
           "attention_forward", "attention_backward", "head_norm_forward", "head_norm_backward",
           "norm_forward", "norm_backward", "loss_head", "optimizer_adamw"}


def check(good, what):
    if not good:
        raise SystemExit(f"failed: {what}")


def near(a, b):
    return math.isclose(a, b, rel_tol=1e-9)


def bench(*arguments, ranks=0, code=0):
    """Runs `shoal bench small.ini`; its JSON, or its text where it must fail."""
    launch = [MPIRUN, "--oversubscribe", "--bind-to", "none", "-np", str(ranks)] if ranks else []
    output = [] if code else ["--output=out.json"]
    result = subprocess.run([*launch, SHOAL, "bench", "small.ini", *arguments, *output],
                            capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    text = result.stdout + result.stderr
    check(result.returncode == code, f"exit code {result.returncode}, expected {code}\n{text}")
    return text if code else json.loads(Path("out.json").read_text())


def check_ceilings(ceilings):
    for key in ("product", "product_flops_per_s", "copy_bytes", "copy_bytes_per_s"):
        check(ceilings[key] > 0, f"ceilings: {key}")


def check_step(step, ranks, precision, timed):
    check_ceilings(step["ceilings"])
    check(step["ceilings"]["precision"] == precision, "ceilings in the precision of the step")
    check(step["ranks"] == ranks and step["tokens"] == 4 * 32, "ranks and tokens")
    check(len(step["all_seconds"]) == timed and min(step["all_seconds"]) > 0, "timed steps")
    check(step["seconds"] in step["all_seconds"], "the median is one of them")
    check(near(step["tokens_per_s"] * step["seconds"], step["tokens"]), "tokens/s")
    check(near(step["flops_per_s"] * step["seconds"] * ranks, step["flops"]), "FLOP/s")
    check(near(step["share_of_product"] * step["ceilings"]["product_flops_per_s"],
               step["flops_per_s"]), "share of the product")
    products = step["active_parameters"] - 2 * (32 + 32 + 16 + 16) - 32  # without norms
    attention = 2 * 2 * 16 * 32  # layers, heads, width of a head, causal sequence
    check(near(step["flops"], 6 * step["tokens"] * (products + attention)), "FLOPs of a step")
    memory = step["memory_bytes"]
    kinds = ("parameters", "gradients", "optimizer", "activations", "workspace", "other")
    check(all(memory[kind] > 0 for kind in kinds), f"memory {memory}")
    check(memory["total"] == sum(memory[kind] for kind in kinds), "memory adds up")
    check(abs(step["losses"][0] - math.log(VOCABULARY)) < 0.3, f"losses {step['losses']}")
    check(1.0 <= step["imbalance"] <= 4.0, "imbalance")


def steps():
    check_step(bench("--steps=3", "--warmup=1"), 1, "fp32", 3)
    check_step(bench("--steps=2", "--precision=bf16", "--cuda-graph", "off"), 1, "bf16", 2)
    two = bench("--steps=2", ranks=2)
    check_step(two, 2, "fp32", 2)
    check(two["layout"] == "pp=1 dp=2 cp=1 tp=1" and two["micro_batches"] == 1, "layout")


def kernels():
    result = bench("--kernels", "--optim.kind=adamw", "--precision=bf16")
    check_ceilings(result["ceilings"])
    figures = result["kernels"]
    names = {figure["case"] for figure in figures}
    check(names >= KERNELS, f"kernels missing: {KERNELS - names}")
    for figure in figures:
        check(figure["seconds"] > 0 and (figure["flops"] > 0 or figure["bytes"] > 0), figure)
        check(near(figure["share_of_product"] * figure["seconds"]
                   * result["ceilings"]["product_flops_per_s"] + 1, figure["flops"] + 1), figure)
    head_dims = {figure["shape"]["d"] for figure in figures if "attention" in figure["case"]}
    check(head_dims == {16, 64, 128}, f"head dims {head_dims}")
    up = next(figure for figure in figures if figure["case"] == "up_swiglu")
    check(up["shape"] == {"T": 64, "D": 32, "F": 48, "E": 4, "K": 2}, up)
    check(up["flops"] == 2 * (64 * 2) * 32 * (2 * 48), up)
    dense = bench("--kernels", "--model.num_experts=1", "--model.intermediate_size=40")
    check("up_swiglu" not in {figure["case"] for figure in dense["kernels"]}, "a dense model")


def wrong_inputs():
    text = bench("--steps=0", "--warmup=-1", "--precision=fp8", "--model.num_experts_per_tok=9",
                 code=2)
    for word in ("4 problems", "bench.steps", "bench.warmup", "precision", "num_experts_per_tok"):
        check(word in text, f"no {word} in {text}")
    check("bench.kernels" in bench("--kernels", ranks=2, code=2), "kernels on two ranks")
    check("seq_len" in bench("--seq_len=65", code=2), "a sequence beyond the positions")
    if not Path("/dev/nvidiactl").exists():
        check("no GPU" in bench("--device=cuda", code=2), "a GPU that is not there")


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("small.ini").write_text(SMALL)
        steps()
        kernels()
        wrong_inputs()
        os.chdir("/")
    print("bench_test: all checks hold")


if __name__ == "__main__":
    main()
