#!/usr/bin/env python3
"""Exchange with Hugging Face transformers, both ways, for every family that export knows.

  compare_transformers.py SHOAL_BINARY [WORK_FOLDER]

For each family: a random transformers model is saved, imported by `shoal import`, exported again
by `shoal export` and loaded by transformers: its weights must be the same bits. Then the logits
that Shoal computes for some tokens are compared with those of transformers (<= 1e-4, fp32); Shoal
prints them through `shoal generate --print_logits`.
Needs torch, transformers, tokenizers. Not needed to build, run or test Shoal.
"""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from transformers import (Glm4MoeConfig, Glm4MoeForCausalLM, Qwen3Config, Qwen3ForCausalLM,
                          Qwen3MoeConfig, Qwen3MoeForCausalLM)

COMMON = dict(vocab_size=257, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
              num_key_value_heads=2, head_dim=16, intermediate_size=96,
              max_position_embeddings=128, initializer_range=0.1)
EXPERTS = dict(num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True)
ROPE = {"rope_type": "default", "rope_theta": 50000.0}
CASES = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, dict(rope_parameters=ROPE)),
    "qwen3-tied": (Qwen3Config, Qwen3ForCausalLM, dict(tie_word_embeddings=True)),
    "qwen3_moe": (Qwen3MoeConfig, Qwen3MoeForCausalLM,
                  dict(num_experts=8, rope_parameters=ROPE, **EXPERTS)),
    "qwen3_moe-dense-first": (Qwen3MoeConfig, Qwen3MoeForCausalLM,
                              dict(num_experts=4, mlp_only_layers=[0],
                                   **{**EXPERTS, "norm_topk_prob": False})),
    "glm4_moe": (Glm4MoeConfig, Glm4MoeForCausalLM,
                 dict(n_routed_experts=8, n_shared_experts=1, first_k_dense_replace=1,
                      use_qk_norm=True, routed_scaling_factor=1.5,
                      rope_parameters={**ROPE, "partial_rotary_factor": 1.0}, **EXPERTS)),
    "glm4_moe-no-qk-norm": (Glm4MoeConfig, Glm4MoeForCausalLM,
                            dict(n_routed_experts=4, n_shared_experts=2, first_k_dense_replace=0,
                                 use_qk_norm=False,
                                 rope_parameters={**ROPE, "partial_rotary_factor": 1.0},
                                 **EXPERTS)),
}
PROMPT = "To be, or not to be, that is the question:"


def bytes_tokenizer_json():
    """256 bytes and an end of document, in the file format of Hugging Face tokenizers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer


def random_model(config_class, model_class, options):
    torch.manual_seed(7)
    model = model_class(config_class(**COMMON, **options)).float().eval()
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if "norm" in name:
                tensor.copy_(1.0 + 0.2 * torch.randn_like(tensor))
            if "e_score_correction_bias" in name:
                tensor.copy_(0.1 * torch.randn_like(tensor))
    return model


def run(shoal, *arguments):
    result = subprocess.run([shoal, *map(str, arguments)], capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"shoal {arguments[0]} failed: {result.stdout}{result.stderr}")
    return result.stdout


def compare(name, shoal, work):
    config_class, model_class, options = CASES[name]
    model = random_model(config_class, model_class, options)
    theirs, ours, back = work / f"{name}-hf", work / f"{name}-run", work / f"{name}-back"
    model.save_pretrained(theirs)
    tokenizer = bytes_tokenizer_json()
    tokenizer.save(str(theirs / "tokenizer.json"))
    run(shoal, "import", theirs, f"--output={ours}")
    run(shoal, "export", ours, f"--output={back}", "--shard_mb=1")
    again = transformers.AutoModelForCausalLM.from_pretrained(back, dtype=torch.float32).eval()
    for key, tensor in model.state_dict().items():
        if not torch.equal(tensor, again.state_dict()[key]):
            raise SystemExit(f"{name}: {key} differs after import and export")
    ids = transformers.AutoTokenizer.from_pretrained(back)(PROMPT)["input_ids"]
    with torch.no_grad():
        expected = again(torch.tensor([ids])).logits[0, -1]
    text = run(shoal, "generate", ours, f"--prompt={PROMPT}", "--max_tokens=1", "--device=cpu",
               "--print_logits=true")
    got = torch.tensor(json.loads(text.splitlines()[0]))
    worst = (got - expected).abs().max().item()
    print(f"{name}: largest difference of a logit {worst:.2e} "
          f"(logits up to {expected.abs().max().item():.2f})")
    return worst


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    shoal = str(Path(sys.argv[1]).resolve())
    work = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    worst = max(compare(name, shoal, work) for name in CASES)
    if len(sys.argv) <= 2:
        shutil.rmtree(work)
    print(f"transformers {transformers.__version__}: worst {worst:.2e}, allowed 1e-4")
    return 0 if worst <= 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
