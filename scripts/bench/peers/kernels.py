#!/usr/bin/env python3
"""Times in PyTorch the kernels that `shoal bench --kernels` timed, on the same shapes.

Usage: kernels.py SHOAL_KERNELS.json
Each figure is the median of rounds of calls in a row, as Shoal's are. Where PyTorch has more than
one way (attention of cuDNN and flash) each is a figure. Prints one JSON line a case, with the name
of Shoal's case; those that PyTorch has no single counterpart of are left out.
"""
import json
import math
import sys
import time

import torch
import torch._functorch.config
import torch.nn.functional as F
from moe_torch import Experts, attention_backend
from torch import nn

torch._functorch.config.donated_buffer = False  # a backward pass is run again and again
BF16 = torch.bfloat16
ROUND_SECONDS, ROUNDS = 0.02, 7


def seconds_of(work):
    def round_of(calls):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / calls
    for _ in range(3):  # compiles, chooses
        round_of(1)
    calls = max(1, min(1000, math.ceil(ROUND_SECONDS / round_of(2))))
    return sorted(round_of(calls) for _ in range(ROUNDS))[ROUNDS // 2]


def random(*shape, std=1.0, grad=False):
    return (torch.randn(*shape, device="cuda", dtype=BF16) * std).requires_grad_(grad)


def product(case, s):
    x, w, y = random(s["T"], s["K"]), random(s["N"], s["K"], std=0.02), random(s["T"], s["N"])
    if case.endswith("_forward"):
        return {"cublas": lambda: x @ w.T}
    if case.endswith("_dgrad"):
        return {"cublas": lambda: y @ w}
    return {"cublas, bf16, not added": lambda: y.T @ x}


def attention(case, s):
    batch = s["T"] // s["S"]
    q, k, v = (random(batch, n, s["S"], s["d"], grad=True) for n in (s["H"], s["G"], s["G"]))
    dout = random(batch, s["H"], s["S"], s["d"])
    ways = {}
    for name in ("cudnn", "flash"):
        def forward(name=name):
            with attention_backend(name):
                return F.scaled_dot_product_attention(q, k, v, is_causal=True,
                                                      enable_gqa=s["H"] != s["G"])
        if case == "attention_forward":
            ways[name] = forward
        else:
            def backward(out=forward()):
                torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)
            ways[name] = backward
    return ways


def moe(case, s):
    layer = Experts(dict(hidden_size=s["D"], moe_intermediate_size=s["F"], num_experts=s["E"],
                         num_experts_per_tok=s["K"])).cuda()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.02)
    layer.gate_up.data, layer.down.data = layer.gate_up.to(BF16), layer.down.to(BF16)
    compiled = torch.compile(layer)
    x, dy = random(s["T"], s["D"], grad=True), random(s["T"], s["D"])
    if case == "moe_forward":
        def forward():
            with torch.no_grad():
                compiled(x)
        return {"compiled": forward}
    y, _ = compiled(x)
    wanted = (x, *layer.parameters())
    return {"compiled": lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True)}


def norm(case, s):
    x, branch, w = (random(s["T"], s["D"], grad=True), random(s["T"], s["D"], grad=True),
                    random(s["D"], grad=True))

    @torch.compile
    def residual_norm(x, branch, w):
        total = x + branch
        return F.rms_norm(total, (s["D"],), w), total
    if case == "norm_forward":
        def forward():
            with torch.no_grad():
                residual_norm(x, branch, w)
        return {"compiled": forward}
    outputs, grads = residual_norm(x, branch, w), (random(s["T"], s["D"]), random(s["T"], s["D"]))
    return {"compiled": lambda: torch.autograd.grad(outputs, (x, branch, w), grads,
                                                    retain_graph=True)}


def swiglu_backward(case, s):
    del case
    rows = s["T"] * s["K"]
    gate_up, dh = random(rows, 2 * s["F"], grad=True), random(rows, s["F"])

    @torch.compile
    def swiglu(x):
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up
    h = swiglu(gate_up)
    return {"compiled": lambda: torch.autograd.grad(h, gate_up, dh, retain_graph=True)}


def loss_head(case, s):
    del case
    x, w = random(s["T"], s["D"], grad=True), random(s["V"], s["D"], std=0.02, grad=True)
    target = torch.randint(0, s["V"], (s["T"],), device="cuda")

    @torch.compile
    def loss(x, w):
        return F.cross_entropy((x @ w.T).float(), target)

    def step():
        x.grad = w.grad = None
        loss(x, w).backward()
    return {"compiled": step}


def optimizer(case, s):
    del case
    p = nn.Parameter(torch.randn(s["N"], device="cuda"))
    p.grad = torch.randn(s["N"], device="cuda")
    adamw = torch.optim.AdamW([p], lr=1e-3, fused=True)
    working = torch.empty(s["N"], device="cuda", dtype=BF16)

    def phase():
        nn.utils.clip_grad_norm_([p], 1.0)
        adamw.step()
        working.copy_(p.detach())
    return {"clip, fused AdamW, cast": phase}


PEERS = {"qkv_forward": product, "qkv_dgrad": product, "qkv_wgrad_add": product,
         "o_proj_forward": product, "o_proj_dgrad": product, "o_proj_wgrad_add": product,
         "attention_forward": attention, "attention_backward": attention, "moe_forward": moe,
         "moe_backward": moe, "norm_forward": norm, "norm_backward": norm,
         "swiglu_backward": swiglu_backward, "loss_head": loss_head, "optimizer_adamw": optimizer}


def main():
    torch.manual_seed(0)
    with open(sys.argv[1]) as file:
        kernels = json.load(file)["kernels"]
    for kernel in kernels:
        case, shape = kernel["case"], kernel["shape"]
        if case not in PEERS:
            continue
        try:
            ways = PEERS[case](case, shape)
            seconds = {name: seconds_of(work) for name, work in ways.items()}
        except RuntimeError as error:  # a way that this version or GPU does not have
            print(json.dumps(dict(case=case, shape=shape, error=str(error)[:200])), flush=True)
            continue
        best = min(seconds, key=seconds.get)
        print(json.dumps(dict(case=case, shape=shape, seconds=seconds[best], way=best,
                              all_ways=seconds)), flush=True)
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
