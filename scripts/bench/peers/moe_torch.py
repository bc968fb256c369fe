#!/usr/bin/env python3
"""The training step of a mixture of experts in PyTorch, as fast as we know to write it.

A dropless decoder: RMSNorm, grouped-query attention with norms of query and key heads and rotary
positions, top-k SwiGLU experts through grouped matrix products, untied head. Weights are fp32 and
are computed with in bf16; blocks are compiled one by one, attention is cuDNN's, AdamW is fused,
the global norm is clipped at 1. Its losses are Shoal's own: same_model.py holds both to that.

Usage: moe_torch.py SHAPE.json [--steps 10] [--warmup 4] [--recompute none|full] ...
SHAPE.json holds the model's keys of an input file, and seq_len, micro_batch, micro_batches.
Prints one JSON line: seconds, tokens/s, memory in bytes by what it is for, losses.
"""
import argparse
import json
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def grouped_product(rows, weight, ends):
    """rows [R, in] sorted by expert, weight [E, in, out], ends [E]: the row after each expert's."""
    if rows.is_cuda and rows.dtype == torch.bfloat16:
        return torch._grouped_mm(rows, weight, offs=ends)
    parts = rows.tensor_split(ends[:-1].cpu().tolist())
    return torch.cat([part @ w for part, w in zip(parts, weight)])


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.groups, self.width = (c["num_attention_heads"], c["num_key_value_heads"],
                                               c["head_dim"])
        wide = (self.heads + 2 * self.groups) * self.width
        self.qkv = nn.Linear(c["hidden_size"], wide, bias=False)
        self.out = nn.Linear(self.heads * self.width, c["hidden_size"], bias=False)
        self.q_norm = nn.RMSNorm(self.width, eps=c["rms_norm_eps"])
        self.k_norm = nn.RMSNorm(self.width, eps=c["rms_norm_eps"])

    def forward(self, x, cos, sin):
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, -1, self.width).transpose(1, 2).split(
            [self.heads, self.groups, self.groups], dim=1)
        q = rotate(self.q_norm(q), cos, sin).to(v.dtype)
        k = rotate(self.k_norm(k), cos, sin).to(v.dtype)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True,
                                           enable_gqa=self.heads != self.groups)
        return self.out(y.transpose(1, 2).reshape(batch, length, -1))


class Experts(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.count, self.slots = c["num_experts"], c["num_experts_per_tok"]
        hidden, width = c["hidden_size"], c["moe_intermediate_size"]
        self.router = nn.Linear(hidden, self.count, bias=False)
        self.gate_up = nn.Parameter(torch.empty(self.count, hidden, 2 * width))
        self.down = nn.Parameter(torch.empty(self.count, width, hidden))

    def forward(self, x):
        """x [T, D] to the sum of its experts' answers, and the balance loss of this batch."""
        tokens = x.shape[0]
        with torch.autocast(x.device.type, enabled=False):
            probability = F.linear(x.float(), self.router.weight.float()).softmax(dim=-1)
        weight, index = probability.topk(self.slots, dim=-1)
        weight = weight / weight.sum(dim=-1, keepdim=True)
        expert = index.reshape(-1)
        order = expert.argsort(stable=True)
        count = torch.zeros(self.count, device=x.device, dtype=torch.int32).scatter_add_(
            0, expert, torch.ones_like(expert, dtype=torch.int32))
        ends = count.cumsum(0).to(torch.int32)
        token = order // self.slots
        gate, up = grouped_product(x[token], self.gate_up.to(x.dtype), ends).chunk(2, dim=-1)
        y = grouped_product(F.silu(gate) * up, self.down.to(x.dtype), ends)
        y = y * weight.reshape(-1)[order, None].to(y.dtype)
        total = torch.zeros(tokens, x.shape[1], device=x.device, dtype=torch.float32)
        total = total.index_add_(0, token, y.float())
        share = count.float() / (tokens * self.slots)
        return total.to(x.dtype), self.count * (share * probability.mean(0)).sum()


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1 = nn.RMSNorm(c["hidden_size"], eps=c["rms_norm_eps"])
        self.norm2 = nn.RMSNorm(c["hidden_size"], eps=c["rms_norm_eps"])
        self.attention, self.experts = Attention(c), Experts(c)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.norm1(x), cos, sin)
        y, balance = self.experts(self.norm2(x).to(x.dtype).flatten(0, 1))
        return x + y.view_as(x), balance


class Model(nn.Module):
    def __init__(self, c, dtype=torch.bfloat16, recompute="none"):
        super().__init__()
        self.c, self.dtype, self.recompute = c, dtype, recompute
        self.embed = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["num_hidden_layers"]))
        self.norm = nn.RMSNorm(c["hidden_size"], eps=c["rms_norm_eps"])
        self.head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        rate = c["rope_theta"] ** (-torch.arange(0, c["head_dim"], 2) / c["head_dim"])
        angle = torch.outer(torch.arange(c["seq_len"]).float(), rate)
        self.register_buffer("cos", angle.cos().to(dtype))
        self.register_buffer("sin", angle.sin().to(dtype))

    def forward(self, tokens, targets):
        """The cross entropy, and what is to be minimised: with the balance losses."""
        x, balance = self.embed(tokens).to(self.dtype), 0.0
        for block in self.blocks:
            if self.recompute == "full":
                x, b = checkpoint(block, x, self.cos, self.sin, use_reentrant=False)
            else:
                x, b = block(x, self.cos, self.sin)
            balance = balance + b
        logits = self.head(self.norm(x).to(self.dtype))
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        return loss, loss + self.c["router_aux_loss_coef"] * balance


def precision(device, dtype):
    return nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype)


def attention_backend(name):
    backend = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}.get(name)
    return nullcontext() if backend is None else sdpa_kernel(backend)


class StepTimer:
    """Times steps with the device's own events; nothing waits between steps."""

    def __init__(self, model, optimizer, shape, device):
        self.model, self.optimizer, self.shape, self.device = model, optimizer, shape, device
        generator = torch.Generator().manual_seed(1)
        self.data = [torch.randint(1, shape["vocab_size"],
                                   (shape["micro_batch"], shape["seq_len"] + 1),
                                   generator=generator).to(device) for _ in range(4)]
        self.passes = 0
        self.activations = 0

    def micro_batch(self):
        batch = self.data[self.passes % len(self.data)]
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        with torch.autocast("cuda", torch.bfloat16):
            loss, objective = self.model(batch[:, :-1], batch[:, 1:])
        self.activations = max(self.activations, torch.cuda.max_memory_allocated() - before)
        (objective / self.shape["micro_batches"]).backward()
        self.passes += 1
        return loss.detach()

    def step(self):
        for _ in range(self.shape["micro_batches"]):
            loss = self.micro_batch()
            self.peak = max(getattr(self, "peak", 0), torch.cuda.max_memory_allocated())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.peak = max(self.peak, torch.cuda.max_memory_allocated())
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def run(self, warmup, steps):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
        losses = [self.step() for _ in range(warmup)]
        events[0].record()
        for event in events[1:]:
            losses.append(self.step())
            event.record()
        torch.cuda.synchronize()
        seconds = [a.elapsed_time(b) / 1e3 for a, b in zip(events, events[1:])]
        return seconds, [loss.item() for loss in losses]


def bytes_of(tensors):
    return sum(t.numel() * t.element_size() for t in tensors if torch.is_tensor(t))


def report(timer, seconds, losses, **more):
    """One JSON line of a run; the states are what the optimizer keeps."""
    median = sorted(seconds)[len(seconds) // 2]
    shape = timer.shape
    tokens = shape["micro_batch"] * shape["micro_batches"] * shape["seq_len"]
    parameters = bytes_of(timer.model.parameters())
    states = bytes_of(v for s in timer.optimizer.state.values() for v in s.values())
    free, total = torch.cuda.mem_get_info()
    print(json.dumps(dict(more, seconds=median, all_seconds=seconds, tokens=tokens,
                          tokens_per_s=tokens / median, losses=losses,
                          parameters=sum(p.numel() for p in timer.model.parameters()),
                          device=torch.cuda.get_device_name(), torch=torch.__version__,
                          memory_bytes=dict(parameters=parameters, optimizer=states,
                                            activations_and_workspace=timer.activations,
                                            total=timer.peak, device_used=total - free))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=4)
    parser.add_argument("--compile", choices=["blocks", "none"], default="blocks")
    parser.add_argument("--attention", choices=["cudnn", "flash", "auto"], default="cudnn")
    parser.add_argument("--recompute", choices=["none", "full"], default="none")
    arguments = parser.parse_args()
    shape = json.loads(arguments.shape.read_text())
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = Model(shape, recompute=arguments.recompute)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    if arguments.compile == "blocks":
        for i, block in enumerate(model.blocks):
            model.blocks[i] = torch.compile(block)
    with attention_backend(arguments.attention):
        timer = StepTimer(model, optimizer, shape, "cuda")
        seconds, losses = timer.run(arguments.warmup, arguments.steps)
    report(timer, seconds, losses, peer="torch", recompute=arguments.recompute)


if __name__ == "__main__":
    main()
