#!/usr/bin/env python3
"""Writes tests/golden/model_*.h5 and modules.h5: reference values of Shoal's model from PyTorch.

A plain PyTorch model (autograd, float64, fp32 weights and inputs) of DESIGN section 4 computes loss,
router ledger and the gradient of every parameter for small shapes. Before a file is written, the
logits of this model are compared with those of transformers' Qwen3-MoE or GLM-4-MoE where the
configuration has a counterpart there.

usage: make_model_golden.py [FOLDER]      needs torch, numpy, h5py; transformers for the comparison
"""

import math
import sys
from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(2)

DEFAULTS = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "tie_word_embeddings": 0,
    "intermediate_size": 24,
    "first_k_dense_replace": 0,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
    "n_shared_experts": 0,
    "router": "softmax",
    "norm_topk_prob": 1,
    "routed_scaling_factor": 1.0,
    "capacity_factor": 0.0,
    "router_aux_loss_coef": 0.0,
    "aux_loss_scope": "sequence",
    "router_z_loss_coef": 0.0,
    "use_qk_norm": 1,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "dynamic_heads": 0,
    "gate_block": 64,
    "head_budget": 0.5,
    "head_budget_coef": 0.0,
    "sequence": 24,
    "sequences": 2,
}

CASES = {
    # Qwen3-MoE: grouped queries, untied head, both balance losses
    "softmax": {"router_aux_loss_coef": 0.1, "router_z_loss_coef": 0.05},
    # GLM-4-MoE: balance bias, shared expert, a leading dense layer, scaled weights
    "sigmoid": {
        "router": "sigmoid",
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "routed_scaling_factor": 2.5,
        "router_aux_loss_coef": 0.1,
        "num_experts": 5,
        "num_experts_per_tok": 3,
    },
    # several documents a sequence, masked targets, tied table, weights not normalised
    "documents": {
        "tie_word_embeddings": 1,
        "norm_topk_prob": 0,
        "aux_loss_scope": "micro_batch",
        "router_aux_loss_coef": 0.1,
        "documents": True,
    },
    # a plain Llama-like model: one expert is a dense MLP, no norm of queries and keys
    "dense": {"num_experts": 1, "num_experts_per_tok": 1, "use_qk_norm": 0, "documents": True,
              "num_key_value_heads": 4},
    # experts drop what exceeds their capacity; more experts than tokens choose
    "capacity": {"capacity_factor": 0.75, "num_hidden_layers": 1, "num_experts": 6,
                 "router_aux_loss_coef": 0.1},
    "dynamic": {"dynamic_heads": 1, "gate_block": 8, "num_hidden_layers": 1,
                "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4,
                "num_experts": 1, "num_experts_per_tok": 1, "sequence": 40, "documents": True},
    "dynamic_budget": {"dynamic_heads": 1, "gate_block": 8, "num_hidden_layers": 1,
                       "head_budget_coef": 0.3, "head_budget": 0.4, "sequence": 40,
                       "num_experts": 1, "num_experts_per_tok": 1},
}


def is_moe(c, layer):
    return c["num_experts"] > 1 and layer >= c["first_k_dense_replace"]


def make_parameters(c, rng):
    """Logical parameters by name; gains, gates and biases away from their usual starts."""
    D, d, V = c["hidden_size"], c["head_dim"], c["vocab_size"]
    H, G = c["num_attention_heads"], c["num_key_value_heads"]
    p = {}

    def normal(name, shape, std=0.3):
        p[name] = (std * rng.standard_normal(shape)).astype(np.float32)

    def gain(name, n):
        p[name] = (1.0 + 0.2 * rng.standard_normal(n)).astype(np.float32)

    normal("embed_tokens", (V, D), 1.0)
    for n in range(c["num_hidden_layers"]):
        at = f"layers.{n}."
        gain(at + "input_layernorm", D)
        normal(at + "self_attn.q_proj", (H * d, D))
        normal(at + "self_attn.k_proj", (G * d, D))
        normal(at + "self_attn.v_proj", (G * d, D))
        normal(at + "self_attn.o_proj", (D, H * d))
        if c["use_qk_norm"]:
            gain(at + "self_attn.q_norm", d)
            gain(at + "self_attn.k_norm", d)
        if c["dynamic_heads"]:
            normal(at + "self_attn.head_gate.weight", (D,), 1.0)
            p[at + "self_attn.head_gate.length"] = np.array([0.7], np.float32)
            p[at + "self_attn.head_gate.bias"] = np.array([0.1], np.float32)
        gain(at + "post_attention_layernorm", D)

        def mlp(part, width):
            normal(at + part + "gate_proj", (width, D))
            normal(at + part + "up_proj", (width, D))
            normal(at + part + "down_proj", (D, width))

        if not is_moe(c, n):
            mlp("mlp.", c["intermediate_size"])
            continue
        E, I = c["num_experts"], c["moe_intermediate_size"]
        normal(at + "mlp.gate", (E, D), 0.5)
        normal(at + "mlp.experts.gate_proj", (E, I, D))
        normal(at + "mlp.experts.up_proj", (E, I, D))
        normal(at + "mlp.experts.down_proj", (E, D, I))
        if c["n_shared_experts"]:
            mlp("mlp.shared_experts.", c["n_shared_experts"] * I)
    gain("norm", D)
    if not c["tie_word_embeddings"]:
        normal("lm_head", (V, D))
    return p


def make_batch(c, rng, documents):
    T, L = c["sequence"] * c["sequences"], c["sequence"]
    token = rng.integers(0, c["vocab_size"], T)
    target = rng.integers(0, c["vocab_size"], T)
    start = np.repeat(np.arange(c["sequences"]) * L, L)
    mask = np.ones(T, np.uint8)
    if documents:
        cuts = {0: (5, 6, 19), 1: (13, 30)}  # first tokens of later documents in each sequence
        for s, places in cuts.items():
            for cut in places:
                if cut < L:
                    start[s * L + cut : (s + 1) * L] = s * L + cut
                    mask[s * L + cut - 1] = 0
        mask[2] = 0
    return {
        "token": token.astype(np.int32),
        "target": target.astype(np.int32),
        "mask": mask,
        "doc_start": start.astype(np.int32),
        "position": (np.arange(T) - start).astype(np.int32),
    }


def rms_norm(x, w, eps):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * w


def rotate(x, position, theta):
    """x [T, heads, d], rotate-half form."""
    half = x.shape[-1] // 2
    frequency = theta ** (-torch.arange(half) / half)
    angle = position[:, None].to(x.dtype) * frequency
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Reference:
    def __init__(self, c, parameters, bias, batch):
        self.c, self.bias = c, bias
        self.p = {k: torch.tensor(v, dtype=torch.float64, requires_grad=True)
                  for k, v in parameters.items()}
        self.b = {k: torch.tensor(v.astype(np.int64)) for k, v in batch.items()}
        self.objective = torch.zeros(())
        self.ledger = {}
        self.active = {}

    def head_gate(self, at, x):
        """Gate and straight-through activity [T, G] of dynamic attention."""
        c, start = self.c, self.b["doc_start"].tolist()
        T, G, block = x.shape[0], c["num_key_value_heads"], c["gate_block"]
        score = x @ self.p[at + "head_gate.weight"]
        gates, blocks = [], []
        for t in range(T):
            i = (t - start[t]) // block * block  # position of the block's first token
            if i == 0:
                gate = torch.ones(())
            else:
                mean = score[start[t] : start[t] + i].sum() / i
                length = math.log2(1 + i) / math.log2(1 + c["max_position_embeddings"])
                gate = torch.sigmoid(mean + self.p[at + "head_gate.length"][0] * length
                                     + self.p[at + "head_gate.bias"][0])
            gates.append(gate)
            blocks.append(t - start[t] == i)
        gate = torch.stack(gates)
        count = torch.clamp(torch.floor(G * gate.detach() + 0.5), 1, G)
        first = (torch.arange(T) - self.b["doc_start"]) < block
        j = torch.arange(G)
        hard = (j < torch.where(first, G, count)[:, None]).to(x.dtype)
        ramp = torch.clamp((G * gate[:, None] - j - 0.5) / 2 + 0.5, 0, 1)
        # first blocks have no gate; a skipped pair contributes nothing
        soft = torch.where(first[:, None], torch.zeros(()), ramp) * hard
        if c["head_budget_coef"]:
            L = c["sequence"]
            for s in range(c["sequences"]):
                picked = [gates[t] for t in range(s * L, (s + 1) * L) if blocks[t]]
                mean = torch.stack(picked).mean()
                self.objective = self.objective + c["head_budget_coef"] / c["sequences"] * (
                    mean - c["head_budget"]) ** 2
        self.active[at] = torch.where(first, G, count).to(torch.int32)
        return hard + soft - soft.detach()

    def attention(self, n, x):
        c, b, at = self.c, self.b, f"layers.{n}.self_attn."
        T, d, H, G = x.shape[0], c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
        q = (x @ self.p[at + "q_proj"].T).view(T, H, d)
        k = (x @ self.p[at + "k_proj"].T).view(T, G, d)
        v = (x @ self.p[at + "v_proj"].T).view(T, G, d)
        if c["use_qk_norm"]:
            q = rms_norm(q, self.p[at + "q_norm"], c["rms_norm_eps"])
            k = rms_norm(k, self.p[at + "k_norm"], c["rms_norm_eps"])
        q = rotate(q, b["position"], c["rope_theta"])
        k = rotate(k, b["position"], c["rope_theta"])
        k, v = (z.repeat_interleave(H // G, 1) for z in (k, v))
        t = torch.arange(T)
        seen = (t[None] <= t[:, None]) & (t[None] >= b["doc_start"][:, None])
        score = torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(d)
        weight = score.masked_fill(~seen, -math.inf).softmax(-1)
        out = torch.einsum("hij,jhd->ihd", weight, v)
        if c["dynamic_heads"]:
            out = out * self.head_gate(at, x).repeat_interleave(H // G, 1)[..., None]
        return out.reshape(T, H * d) @ self.p[at + "o_proj"].T

    def mlp(self, at, x):
        hidden = F.silu(x @ self.p[at + "gate_proj"].T) * (x @ self.p[at + "up_proj"].T)
        return hidden @ self.p[at + "down_proj"].T

    def moe(self, n, x):
        c, at = self.c, f"layers.{n}.mlp."
        T, E, K = x.shape[0], c["num_experts"], c["num_experts_per_tok"]
        logits = x @ self.p[at + "gate"].T
        sigmoid = c["router"] == "sigmoid"
        score = logits.sigmoid() if sigmoid else logits.softmax(-1)
        choice = score + self.bias[n] if sigmoid else score
        index = choice.detach().topk(K, -1).indices
        weight = score.gather(1, index)
        if c["norm_topk_prob"]:
            weight = weight / (weight.sum(-1, keepdim=True) + 1e-20)
        weight = weight * c["routed_scaling_factor"]
        self.balance(n, logits, score, index)
        y = torch.zeros_like(x)
        taken, dropped = [0] * E, 0
        capacity = T * K
        if c["capacity_factor"] > 0:
            capacity = math.ceil(c["capacity_factor"] * T * K / E)
        gate, up, down = (self.p[at + "experts." + w] for w in ("gate_proj", "up_proj", "down_proj"))
        rows = []
        for t in range(T):
            row = torch.zeros(x.shape[1])
            for k in range(K):
                e = int(index[t, k])
                if taken[e] >= capacity:
                    dropped += 1
                    continue
                taken[e] += 1
                hidden = F.silu(gate[e] @ x[t]) * (up[e] @ x[t])
                row = row + weight[t, k] * (down[e] @ hidden)
            rows.append(row)
        y = torch.stack(rows)
        self.ledger[n]["sums"][3] = dropped
        if c["n_shared_experts"]:
            y = y + self.mlp(at + "shared_experts.", x)
        return y

    def balance(self, n, logits, score, index):
        c, E = self.c, self.c["num_experts"]
        T, K = index.shape
        probability = score / score.sum(-1, keepdim=True)
        S = c["sequences"] if c["aux_loss_scope"] == "sequence" else 1
        chosen = F.one_hot(index, E).sum(1).to(score.dtype)
        f = chosen.view(S, T // S, E).sum(1) * E / (K * T / S)
        aux = (f * probability.view(S, T // S, E).mean(1)).sum()
        z = (logits.logsumexp(-1) ** 2).sum()
        self.objective = self.objective + c["router_aux_loss_coef"] * aux / S
        self.objective = self.objective + c["router_z_loss_coef"] * z / T
        entropy = -(probability * probability.log()).sum()
        self.ledger[n] = {"count": chosen.sum(0),
                          "sums": [float(v.detach()) for v in (entropy, z, aux)] + [0.0]}

    def logits(self):
        c, p = self.c, self.p
        x = p["embed_tokens"][self.b["token"]]
        for n in range(c["num_hidden_layers"]):
            at = f"layers.{n}."
            x = x + self.attention(n, rms_norm(x, p[at + "input_layernorm"], c["rms_norm_eps"]))
            y = rms_norm(x, p[at + "post_attention_layernorm"], c["rms_norm_eps"])
            x = x + (self.moe(n, y) if is_moe(c, n) else self.mlp(at + "mlp.", y))
        head = p["embed_tokens"] if c["tie_word_embeddings"] else p["lm_head"]
        return rms_norm(x, p["norm"], c["rms_norm_eps"]) @ head.T


def transformers_logits(c, p, bias, batch):
    """Logits of the transformers model with the same weights, or None without a counterpart."""
    import transformers as tf

    if c["dynamic_heads"] or c["capacity_factor"] or c["num_experts"] == 1:
        return None
    shared = dict(
        vocab_size=c["vocab_size"], hidden_size=c["hidden_size"],
        num_hidden_layers=c["num_hidden_layers"], num_attention_heads=c["num_attention_heads"],
        num_key_value_heads=c["num_key_value_heads"], head_dim=c["head_dim"],
        intermediate_size=c["intermediate_size"], num_experts_per_tok=c["num_experts_per_tok"],
        moe_intermediate_size=c["moe_intermediate_size"], norm_topk_prob=bool(c["norm_topk_prob"]),
        rms_norm_eps=c["rms_norm_eps"], tie_word_embeddings=bool(c["tie_word_embeddings"]),
        attention_bias=False, attn_implementation="eager",
        experts_implementation="eager")
    if c["router"] == "softmax":
        config = tf.Qwen3MoeConfig(
            num_experts=c["num_experts"], mlp_only_layers=[], decoder_sparse_step=1,
            rope_parameters={"rope_type": "default", "rope_theta": c["rope_theta"]}, **shared)
        model = tf.Qwen3MoeForCausalLM(config)
    else:
        config = tf.Glm4MoeConfig(
            n_routed_experts=c["num_experts"], n_shared_experts=c["n_shared_experts"],
            first_k_dense_replace=c["first_k_dense_replace"], use_qk_norm=True,
            routed_scaling_factor=c["routed_scaling_factor"], n_group=1, topk_group=1,
            rope_parameters={"rope_type": "default", "rope_theta": c["rope_theta"],
                             "partial_rotary_factor": 1.0}, **shared)
        model = tf.Glm4MoeForCausalLM(config)
    model = model.double().eval()
    state = model.state_dict()
    for name in state:
        key = name.removeprefix("model.").removesuffix(".weight")
        if key == "lm_head" and c["tie_word_embeddings"]:
            key = "embed_tokens"
        if key.endswith("experts.gate_up_proj"):
            stem = key.removesuffix("gate_up_proj")
            value = np.concatenate([p[stem + "gate_proj"], p[stem + "up_proj"]], 1)
        elif key.endswith("e_score_correction_bias"):
            value = bias[int(key.split(".")[1])]
        else:
            value = p[key]
        assert state[name].shape == value.shape, (name, state[name].shape, value.shape)
        state[name] = torch.tensor(value, dtype=torch.float64)
    model.load_state_dict(state)
    S, L = c["sequences"], c["sequence"]
    with torch.no_grad():
        out = model(input_ids=torch.tensor(batch["token"].astype(np.int64)).view(S, L))
    return out.logits.reshape(S * L, -1)


def compare_with_transformers(name, c, parameters, bias, rng):
    batch = make_batch(c, rng, documents=False)
    theirs = transformers_logits(c, parameters, bias, batch)
    if theirs is None:
        return print(f"{name}: no counterpart in transformers")
    ours = Reference(c, parameters, {n: torch.tensor(b, dtype=torch.float64)
                                     for n, b in bias.items()}, batch).logits()
    error = float((ours - theirs).detach().norm() / theirs.norm())
    print(f"{name}: relative distance to transformers {error:.1e}")
    assert error < 1e-6, "rotary angles are fp32 there; anything more is a different model"


def write_start(f, c, parameters, bias, batch, seed):
    """What every file holds: configuration, weights and the micro-batch."""
    for key, value in c.items():
        f.attrs[key] = value if isinstance(value, str) else (
            np.int64(value) if isinstance(value, (int, bool)) else np.float64(value))
    f.attrs["made_by"] = (f"scripts/reference/make_model_golden.py, seed {seed}, "
                          f"torch {torch.__version__}")
    for key, value in batch.items():
        f["batch/" + key] = value
    for key, value in parameters.items():
        f["parameter/" + key] = value.ravel()
    for n, value in bias.items():
        f[f"bias/{n}"] = value


def write(path, c, parameters, bias, batch, ref, loss, seed):
    with h5py.File(path, "w") as f:
        write_start(f, c, parameters, bias, batch, seed)
        f.attrs["loss_sum"] = float(loss.detach())
        for key in parameters:
            f["gradient/" + key] = ref.p[key].grad.numpy().astype(np.float32).ravel()
        for n, ledger in ref.ledger.items():
            f[f"ledger/{n}/count"] = ledger["count"].numpy().astype(np.float32)
            f[f"ledger/{n}/sums"] = np.array(ledger["sums"], np.float32)
        for at, active in ref.active.items():
            f["active/" + at.split(".")[1]] = active.numpy()


def make(name, options, folder, seed=20260701):
    documents = options.pop("documents", False)
    c = {**DEFAULTS, **options}
    rng = np.random.default_rng(seed)
    parameters = make_parameters(c, rng)
    bias = {n: (0.2 * rng.standard_normal(c["num_experts"])).astype(np.float32)
            for n in range(c["num_hidden_layers"]) if c["router"] == "sigmoid" and is_moe(c, n)}
    compare_with_transformers(name, c, parameters, bias, np.random.default_rng(seed + 1))
    batch = make_batch(c, rng, documents)
    ref = Reference(c, parameters,
                    {n: torch.tensor(b, dtype=torch.float64) for n, b in bias.items()}, batch)
    loss = F.cross_entropy(ref.logits(), ref.b["target"], reduction="none")
    loss = (loss * ref.b["mask"]).sum()
    (loss / ref.b["mask"].sum() + ref.objective).backward()
    path = Path(folder) / f"model_{name}.h5"
    write(path, c, parameters, bias, batch, ref, loss, seed)
    extra = {at: sorted(set(a.tolist())) for at, a in ref.active.items()}
    print(f"{path}: {path.stat().st_size // 1024} KiB, loss {float(loss):.4f}",
          f"active groups {extra}" if extra else "")


def make_modules(folder, seed=20260702):
    """Each module alone: input x, output y, upstream gradient dy, dx, and its weight gradients."""
    c = {**DEFAULTS, **CASES["sigmoid"], "num_hidden_layers": 2, "num_experts": 4,
         "num_experts_per_tok": 2}
    rng = np.random.default_rng(seed)
    parameters = make_parameters(c, rng)
    bias = {1: (0.2 * rng.standard_normal(c["num_experts"])).astype(np.float32)}
    batch = make_batch(c, rng, documents=True)
    biases = {n: torch.tensor(b, dtype=torch.float64) for n, b in bias.items()}

    def head_loss(ref, x):
        loss = F.cross_entropy(x @ ref.p["lm_head"].T, ref.b["target"], reduction="none")
        return (loss * ref.b["mask"]).sum().reshape(1)

    eps = c["rms_norm_eps"]
    modules = {
        "norm": lambda ref, x: rms_norm(x, ref.p["norm"], eps),
        "attention": lambda ref, x: ref.attention(0, x),
        "mlp": lambda ref, x: ref.mlp("layers.0.mlp.", x),
        "moe": lambda ref, x: ref.moe(1, x),
        "embedding": lambda ref, x: ref.p["embed_tokens"][ref.b["token"]] + 0 * x,
        "head": head_loss,
    }
    path = Path(folder) / "modules.h5"
    with h5py.File(path, "w") as f:
        write_start(f, c, parameters, bias, batch, seed)
        for name, module in modules.items():
            ref = Reference(c, parameters, biases, batch)
            shape = (c["sequence"] * c["sequences"], c["hidden_size"])
            x = rng.standard_normal(shape).astype(np.float32)
            x_t = torch.tensor(x, dtype=torch.float64, requires_grad=True)
            y = module(ref, x_t)
            dy = np.ones(1, np.float32) if name == "head" else rng.standard_normal(
                shape).astype(np.float32)
            ((y * torch.tensor(dy, dtype=torch.float64)).sum() + ref.objective).backward()
            values = {"x": x, "dy": dy, "y": y.detach().numpy(), "dx": x_t.grad.numpy()}
            for key, value in values.items():
                f[f"{name}/{key}"] = value.astype(np.float32).ravel()
            for key, value in ref.p.items():
                if value.grad is not None:
                    f[f"{name}/gradient/{key}"] = value.grad.numpy().astype(np.float32).ravel()
    print(f"{path}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    out = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2] / "tests/golden"
    for case, options in CASES.items():
        make(case, dict(options), out)
    make_modules(out)
