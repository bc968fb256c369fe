#!/usr/bin/env python3
"""Checks that Shoal and its peers compute the same loss and gradients from the same weights.

A dataset of exactly one sequence is the only batch there is. A step of SGD with learning rate 0 leaves
the initial weights, the same step with learning rate 1 the weights minus the gradient; both are
exported, so their difference is Shoal's gradient. The peer loads the initial weights and computes
its own on the same tokens.

Usage: same_model.py SHOAL_BINARY [--device cpu|cuda] [--precision fp32|bf16]
                     [--peers torch,transformers] [--json FILE]
Deviations are norms of the difference over norms of the peer's gradient.
Needs torch, numpy and h5py; transformers for the peer of that name.
"""
import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

import h5py
import numpy
import torch
import torch.nn.functional as F

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "peers")]
import moe_torch  # noqa: E402
import shapes  # noqa: E402

BATCH, SEQUENCE = 1, 512  # a dataset of one sequence has one place to begin
MODEL = {"vocab_size": 512, "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": SEQUENCE,
         "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 128,
         "aux_loss_scope": "micro_batch", "cross_document": "true", "initializer_range": 0.05}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# fp32: largest deviation of the gradient of one parameter, and of the loss. bf16: the deviation of
# all gradients from the peer's in fp32 as a multiple of what the peer's own bf16 deviates, and of
# the loss. (A token near the border between two experts may go another way in bf16.)
LIMITS = {"fp32": (1e-3, 1e-5), "bf16": (1.5, 5e-3)}


class ShoalSide:
    """Weights, gradients, loss and tokens of one step."""

    def __init__(self, binary, folder, arguments, balance):
        self.binary, self.folder, self.arguments = binary, Path(folder), arguments
        text = numpy.random.default_rng(1).integers(32, 127, BATCH * SEQUENCE, dtype=numpy.uint8)
        (self.folder / "text.txt").write_bytes(text.tobytes())
        self.shoal("prepare", self.folder / "text.txt", "--tokenizer=bytes", "--val_fraction=0",
                   f"--output={folder}/data", "--max_badness=0", "--deduplicate=false")
        self.balance = balance
        self.before, self.loss = self.train("before", 0)
        after, _ = self.train("after", 1)
        self.gradient = {name: value - after[name] for name, value in self.before.items()}

    def shoal(self, *words):
        return shapes.run([self.binary, *words], timeout=120, OMPI_ALLOW_RUN_AS_ROOT="1",
                          OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")

    def train(self, name, rate):
        keys = {f"model.{key}": value for key, value in MODEL.items()}
        keys |= {"model.router_aux_loss_coef": self.balance, "data.train": f"{self.folder}/data/train",
                 "optim.kind": "sgd", "optim.lr": rate, "optim.weight_decay": 0,
                 "optim.clip_norm": 0, "optim.schedule": "constant", "optim.warmup_steps": 0,
                 "training.seq_len": SEQUENCE, "training.global_batch_size": BATCH,
                 "training.steps": 1, "training.device": self.arguments.device,
                 "training.precision": self.arguments.precision,
                 "training.run_dir": f"{self.folder}/{name}"}
        self.shoal("train", *(f"--{key}={value}" for key, value in keys.items()))
        self.shoal("export", self.folder / name, f"--output={self.folder}/{name}-hf")
        with h5py.File(self.folder / name / "metrics.h5") as file:
            loss = float(file["train/loss"][0])
        return read_safetensors(self.folder / f"{name}-hf"), loss

    def tokens(self):
        shard = next((self.folder / "data" / "train").glob("*.h5"))
        with h5py.File(shard) as file:
            tokens = torch.from_numpy(file["tokens"][:].astype(numpy.int64))
        if len(tokens) != BATCH * SEQUENCE + 1:
            raise SystemExit(f"{len(tokens)} tokens are not one batch")
        return tokens[:-1].view(BATCH, SEQUENCE), tokens[1:].view(BATCH, SEQUENCE)


def read_safetensors(folder):
    """{name: fp32 tensor} of all files: a header's length, the header in JSON, the data."""
    tensors = {}
    for path in Path(folder).glob("*.safetensors"):
        data = path.read_bytes()
        begin = 8 + int.from_bytes(data[:8], "little")
        for name, entry in json.loads(data[8:begin]).items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            values = numpy.frombuffer(data[begin + first:begin + last], numpy.float32)
            tensors[name] = torch.from_numpy(values.copy()).view(entry["shape"])
    return tensors


def torch_names(model, tensors):
    """The weights of moe_torch.Model from those of the Hugging Face layout."""
    def experts(layer, *kinds):
        return torch.stack([torch.cat([tensors[f"{layer}.mlp.experts.{e}.{kind}.weight"]
                                       for kind in kinds]).T for e in range(model.c["num_experts"])])
    state = {"embed.weight": tensors["model.embed_tokens.weight"],
             "norm.weight": tensors["model.norm.weight"], "head.weight": tensors["lm_head.weight"]}
    for n in range(len(model.blocks)):
        theirs, ours = f"model.layers.{n}", f"blocks.{n}"
        attention = f"{theirs}.self_attn"
        state |= {
            f"{ours}.norm1.weight": tensors[f"{theirs}.input_layernorm.weight"],
            f"{ours}.norm2.weight": tensors[f"{theirs}.post_attention_layernorm.weight"],
            f"{ours}.attention.qkv.weight": torch.cat(
                [tensors[f"{attention}.{kind}_proj.weight"] for kind in "qkv"]),
            f"{ours}.attention.out.weight": tensors[f"{attention}.o_proj.weight"],
            f"{ours}.attention.q_norm.weight": tensors[f"{attention}.q_norm.weight"],
            f"{ours}.attention.k_norm.weight": tensors[f"{attention}.k_norm.weight"],
            f"{ours}.experts.router.weight": tensors[f"{theirs}.mlp.gate.weight"],
            f"{ours}.experts.gate_up": experts(theirs, "gate_proj", "up_proj"),
            f"{ours}.experts.down": experts(theirs, "down_proj")}
    return state


def torch_side(side, dtype):
    """Loss, gradients by name, and Shoal's gradients under the same names."""
    device = side.arguments.device
    c = dict(shapes.DEFAULTS, **{k: v for k, v in MODEL.items() if not isinstance(v, str)},
             seq_len=SEQUENCE, router_aux_loss_coef=side.balance)
    model = moe_torch.Model(c, dtype).to(device)
    with torch.no_grad():
        model.load_state_dict(torch_names(model, side.before), strict=False)
    tokens, targets = (x.to(device) for x in side.tokens())
    with moe_torch.precision(device, dtype):
        loss, objective = model(tokens, targets)
    objective.backward()
    gradients = {name: p.grad.cpu() for name, p in model.named_parameters()}
    return loss.item(), gradients, torch_names(model, side.gradient)


def transformers_side(side, dtype):
    from transformers import Qwen3MoeForCausalLM
    device = side.arguments.device
    model = Qwen3MoeForCausalLM.from_pretrained(side.folder / "before-hf",
                                                dtype=torch.float32).to(device)
    tokens, targets = (x.to(device) for x in side.tokens())
    with moe_torch.precision(device, dtype):
        logits = model(input_ids=tokens).logits
    loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
    loss.backward()
    gradients, ours = {}, {}
    for name, parameter in model.named_parameters():
        grad = parameter.grad.cpu()
        if name in side.gradient:
            gradients[name], ours[name] = grad, side.gradient[name]
            continue
        for part, theirs in expert_parts(name, grad):
            gradients[part], ours[part] = theirs, side.gradient[part]
    return loss.item(), gradients, ours


def expert_parts(name, grad):
    """Fused experts of newer versions, [E, 2F, D] and [E, D, F], under the names of each expert."""
    layer = name.rsplit(".", 1)[0]
    for e, matrix in enumerate(grad):
        if name.endswith("gate_up_proj"):
            gate, up = matrix.chunk(2)
            yield f"{layer}.{e}.gate_proj.weight", gate
            yield f"{layer}.{e}.up_proj.weight", up
        else:
            yield f"{layer}.{e}.down_proj.weight", matrix


def distance(gradients, reference):
    """Norm of the difference over the norm of the reference, all parameters together."""
    squares = sum((gradients[name] - grad).square().sum().item() for name, grad in reference.items())
    return math.sqrt(squares / sum(grad.square().sum().item() for grad in reference.values()))


def compare(side, peer):
    """Deviations of Shoal from one peer."""
    precision = side.arguments.precision
    compute = torch_side if peer == "torch" else transformers_side
    loss, theirs, ours = compute(side, DTYPES[precision])
    deviation = {name: ((ours[name] - grad).norm() / grad.norm().clamp(min=1e-12)).item()
                 for name, grad in theirs.items()}
    worst = max(deviation, key=deviation.get)
    result = dict(peer=peer, device=side.arguments.device, precision=precision, loss=side.loss,
                  peer_loss=loss, loss_deviation=abs(side.loss / loss - 1), parameters=len(theirs),
                  largest_deviation=deviation[worst], largest_at=worst,
                  gradient_deviation=distance(ours, theirs))
    judged = deviation[worst]
    if precision != "fp32":
        _, reference, _ = compute(side, torch.float32)
        result["from_fp32"] = distance(ours, reference)
        result["peer_from_fp32"] = distance(theirs, reference)
        judged = result["from_fp32"] / result["peer_from_fp32"]
    gradient_limit, loss_limit = LIMITS[precision]
    result["agree"] = judged <= gradient_limit and result["loss_deviation"] <= loss_limit
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=list(LIMITS), default="fp32")
    parser.add_argument("--peers", default="torch")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    results = []
    for peer in arguments.peers.split(","):
        # transformers mixes the layers in its balance loss, as no other does: it is left out there.
        balance = 0.5 if peer == "torch" else 0.0
        with tempfile.TemporaryDirectory() as folder:
            side = ShoalSide(arguments.binary, folder, arguments, balance)
            results.append(compare(side, peer))
        print(json.dumps(results[-1]))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    return 0 if all(result["agree"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
