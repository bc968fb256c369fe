#!/usr/bin/env python3
"""One training step of a small Mixture of Experts on the CPU: Shoal against PyTorch eager.

The same model, batch and number of threads on both sides, in one run, turn by turn: embedding,
4 layers of width 256 (4 heads in 2 groups, QK-norm, rotary, RMSNorm; 8 SwiGLU experts of 512,
top-2), untied head, cross entropy, clipping at 1.0, AdamW. With bf16 PyTorch runs twice: under
autocast (fp32 weights) and with the whole model in bf16; Shoal keeps fp32 master weights.

Usage: cpu_step.py SHOAL_BINARY [--precision fp32|bf16] [--threads 2] [--steps 12] [--rounds 3]
                   [--vocab 4096]
Needs torch and h5py. Prints the median and the best step of each side, the ratios, and the load of
the machine: other work makes both sides slower, not equally.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import torch
import torch.nn.functional as F
from torch import nn

D, LAYERS, HEADS, GROUPS, HEAD, EXPERTS, TOP, WIDTH = 256, 4, 4, 2, 64, 8, 2, 512
SEQUENCE, BATCH = 256, 8


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(D, (HEADS + 2 * GROUPS) * HEAD, bias=False)
        self.out = nn.Linear(HEADS * HEAD, D, bias=False)
        self.q_norm, self.k_norm = nn.RMSNorm(HEAD, eps=1e-6), nn.RMSNorm(HEAD, eps=1e-6)

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, -1, HEAD).transpose(1, 2).split(
            [HEADS, GROUPS, GROUPS], dim=1)
        q, k = rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.out(y.transpose(1, 2).reshape(batch, length, -1))


class Experts(nn.Module):
    """Dropless: each expert works on the rows that chose it."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(D, EXPERTS, bias=False)
        self.gate_up = nn.Parameter(torch.randn(EXPERTS, 2 * WIDTH, D) * 0.02)
        self.down = nn.Parameter(torch.randn(EXPERTS, D, WIDTH) * 0.02)

    def forward(self, x):
        flat = x.reshape(-1, D)
        probability = self.router(flat).softmax(-1)
        weight, index = probability.topk(TOP, dim=-1)
        weight = weight / weight.sum(-1, keepdim=True)
        out = torch.zeros_like(flat)
        for e in range(EXPERTS):
            row, slot = torch.where(index == e)
            gate, up = F.linear(flat[row], self.gate_up[e]).chunk(2, dim=-1)
            y = F.linear(F.silu(gate) * up, self.down[e])
            out.index_add_(0, row, (y * weight[row, slot, None]).to(out.dtype))
        share = F.one_hot(index, EXPERTS).float().mean((0, 1))
        balance = EXPERTS * (share * probability.mean(0)).sum()
        return out.view_as(x), balance


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(D, eps=1e-6), nn.RMSNorm(D, eps=1e-6)
        self.attention, self.experts = Attention(), Experts()

    def forward(self, x, cos, sin):
        x = x + self.attention(self.norm1(x), cos, sin)
        y, balance = self.experts(self.norm2(x))
        return x + y, balance


class Model(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.embed = nn.Embedding(vocab, D)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm, self.head = nn.RMSNorm(D, eps=1e-6), nn.Linear(D, vocab, bias=False)
        angle = torch.arange(SEQUENCE)[:, None] * 1e4 ** (-torch.arange(0, HEAD, 2) / HEAD)
        self.register_buffer("cos", angle.cos().repeat(1, 2))
        self.register_buffer("sin", angle.sin().repeat(1, 2))

    def forward(self, tokens, targets):
        x, total = self.embed(tokens), 0.0
        for block in self.blocks:
            x, balance = block(x, self.cos, self.sin)
            total = total + balance
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()) + 0.01 * total


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class TorchSide:
    def __init__(self, vocab, autocast=False, dtype=torch.float32):
        torch.manual_seed(0)
        self.model, self.autocast = Model(vocab).to(dtype), autocast
        decay = [p for p in self.model.parameters() if p.dim() > 1]
        rest = [p for p in self.model.parameters() if p.dim() <= 1]
        groups = [dict(params=decay, weight_decay=0.1), dict(params=rest, weight_decay=0.0)]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)

    def steps(self, count):
        seconds = []
        for _ in range(count):
            tokens = torch.randint(0, 256, (BATCH, SEQUENCE + 1))
            start = time.perf_counter()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast):
                loss = self.model(tokens[:, :-1], tokens[:, 1:])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            seconds.append(time.perf_counter() - start)
        return seconds[2:]


class ShoalSide:
    def __init__(self, binary, folder, arguments):
        self.binary, self.folder, self.arguments, self.round = binary, folder, arguments, 0
        text = folder / "random.txt"
        letters = torch.randint(32, 127, (400_000,), generator=torch.Generator().manual_seed(1))
        text.write_bytes(bytes(letters.tolist()))
        self.run("prepare", text, "--tokenizer=bytes", f"--output={folder}/data",
                 "--val_fraction=0", "--max_badness=0")

    def run(self, *words):
        environment = dict(os.environ, OMP_NUM_THREADS=str(self.arguments.threads))
        result = subprocess.run([self.binary, *map(str, words)], capture_output=True, text=True,
                                env=environment)
        if result.returncode != 0:
            raise SystemExit(result.stdout + result.stderr)

    def steps(self, count):
        self.round += 1
        run_dir = self.folder / f"run{self.round}"
        ini = self.folder / "step.ini"
        ini.write_text(f"""[model]
vocab_size = {self.arguments.vocab}
hidden_size = {D}
num_hidden_layers = {LAYERS}
num_attention_heads = {HEADS}
num_key_value_heads = {GROUPS}
head_dim = {HEAD}
max_position_embeddings = {SEQUENCE}
num_experts = {EXPERTS}
num_experts_per_tok = {TOP}
moe_intermediate_size = {WIDTH}
cross_document = true
[data]
train = {self.folder}/data/train
[optim]
kind = adamw
[training]
seq_len = {SEQUENCE}
global_batch_size = {BATCH}
steps = {count}
device = cpu
threads = {self.arguments.threads}
precision = {self.arguments.precision}
run_dir = {run_dir}
[checkpoint]
interval = 0
""")
        self.run("train", ini)
        with h5py.File(run_dir / "metrics.h5") as file:
            return [float(x) for x in file["train/seconds_step"][2:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vocab", type=int, default=4096)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        sides = {"shoal": ShoalSide(arguments.binary, Path(folder), arguments)}
        if arguments.precision == "fp32":
            sides["torch"] = TorchSide(arguments.vocab)
        else:
            sides["torch autocast"] = TorchSide(arguments.vocab, autocast=True)
            sides["torch bf16"] = TorchSide(arguments.vocab, dtype=torch.bfloat16)
        seconds = {name: [] for name in sides}
        for _ in range(arguments.rounds):
            for name, side in sides.items():
                seconds[name] += side.steps(arguments.steps)
    tokens = SEQUENCE * BATCH
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        print(f"{name}: median {median[name]:.3f} s a step (best {min(values):.3f}), "
              f"{tokens / median[name]:,.0f} tokens/s")
    print(f"torch {torch.__version__}, {arguments.precision}, {arguments.threads} threads, load "
          f"{load:.1f} to {os.getloadavg()[0]:.1f}")
    for name in sides:
        if name != "shoal":
            print(f"shoal is {median[name] / median['shoal']:.2f} times as fast as {name} (best "
                  f"against best: {min(seconds[name]) / min(seconds['shoal']):.2f})")


if __name__ == "__main__":
    sys.exit(main())
