#!/usr/bin/env python3
"""The training step of transformers' Qwen3-MoE as a user writes it, experts by grouped products.

Usage: moe_transformers.py SHAPE.json [--experts grouped_mm|eager] [--steps 6] [--warmup 3]
SHAPE.json as for moe_torch.py. Prints one JSON line.
"""
import argparse
import json
from pathlib import Path

import torch
from moe_torch import StepTimer, report
from torch import nn
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM


class Model(nn.Module):
    """Gives the loss twice: transformers adds its own balance loss to it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens, targets):
        del targets  # it shifts the labels itself
        loss = self.model(input_ids=tokens, labels=tokens).loss
        return loss, loss


def make_config(shape, experts):
    keys = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "num_experts", "num_experts_per_tok",
            "moe_intermediate_size", "router_aux_loss_coef", "rms_norm_eps")
    rope = {"rope_type": "default", "rope_theta": shape["rope_theta"]}
    config = Qwen3MoeConfig(**{key: shape[key] for key in keys}, norm_topk_prob=True,
                            rope_parameters=rope,
                            max_position_embeddings=shape["seq_len"], output_router_logits=True,
                            tie_word_embeddings=False)
    config._experts_implementation = experts
    return config


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", type=Path)
    parser.add_argument("--experts", choices=["grouped_mm", "eager"], default="grouped_mm")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warmup", type=int, default=3)
    arguments = parser.parse_args()
    shape = json.loads(arguments.shape.read_text())
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = Model(Qwen3MoeForCausalLM(make_config(shape, arguments.experts)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    timer = StepTimer(model, optimizer, shape, "cuda")
    seconds, losses = timer.run(arguments.warmup, arguments.steps)
    report(timer, seconds, losses, peer="transformers " + arguments.experts)


if __name__ == "__main__":
    main()
