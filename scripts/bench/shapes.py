"""What benchmark scripts share: running Shoal, and shapes of input files for the peers."""
import configparser
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = dict(rms_norm_eps=1e-6, rope_theta=10000.0, router_aux_loss_coef=0.01)


def read_keys(path):
    """{"section.key": text} of an input file."""
    parser = configparser.ConfigParser(inline_comment_prefixes=("#",))
    parser.read_string(Path(path).read_text())
    return {f"{section}.{key}": value for section in parser.sections()
            for key, value in parser[section].items()}


def number(text):
    try:
        return int(text)
    except ValueError:
        return float(text)


def shape_of(keys):
    """The model and batch of input keys, as the peers read them. They know no other kind."""
    wanted = {"model.router": "softmax", "model.norm_topk_prob": "true",
              "model.tie_word_embeddings": "false", "model.use_qk_norm": "true"}
    for key, value in wanted.items():
        if keys.get(key, value) != value:
            raise SystemExit(f"{key} = {keys[key]}: the peers have only {value}")
    shape = dict(DEFAULTS)
    for key, value in keys.items():
        section, name = key.split(".")
        if section == "model" and value.replace(".", "").replace("e-", "").isdigit():
            shape[name] = number(value)
    batch = int(keys["training.global_batch_size"])
    micro = int(keys.get("training.micro_batch_size", batch))
    return dict(shape, seq_len=int(keys["training.seq_len"]), micro_batch=micro,
                micro_batches=batch // micro)


def run(command, timeout=None, **environment):
    """Output of a command; SystemExit with all of it where it fails, None where time runs out."""
    try:
        result = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                                timeout=timeout, env=dict(os.environ, **environment))
    except subprocess.TimeoutExpired:
        return None
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(str(word) for word in command)}\n{result.stdout}"
                         f"{result.stderr}")
    return result.stdout
