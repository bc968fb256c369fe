"""What the tests of the program from the outside share.

A test takes the program as its first argument and mpirun as its second.
"""
import os
import subprocess
import sys
from pathlib import Path

SHOAL = str(Path(sys.argv[1]).resolve())
MPIRUN = sys.argv[2] if len(sys.argv) > 2 else "mpirun"
ENVIRONMENT = dict(os.environ, OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1",
                   OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_mpi_yield_when_idle="1")
MODEL = """[model]
hidden_size = 32
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
head_dim = 16
max_position_embeddings = 64
num_experts = 4
num_experts_per_tok = 2
moe_intermediate_size = 32
"""


class Failure(Exception):
    """A check that did not hold."""


def run(words, code=0, environment=None, timeout=120, user=None):
    """Runs a command and returns its output; `code` is the exit code it must end with."""
    words = list(map(str, words))
    result = subprocess.run(words, capture_output=True, text=True, errors="replace",
                            env=environment or ENVIRONMENT, timeout=timeout, user=user)
    output = result.stdout + result.stderr
    if result.returncode != code:
        raise Failure(f"exit code {result.returncode}, expected {code}: {' '.join(words)}\n{output}")
    return output


def must_hold(text, *parts):
    for part in parts:
        if part not in text:
            raise Failure(f'no "{part}" in:\n{text}')
