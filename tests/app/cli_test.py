#!/usr/bin/env python3
"""The program from the outside: a whole life of a small model, then wrong inputs.

Usage: cli_test.py SHOAL_BINARY [MPIRUN]
Each wrong input must end with its exit code and a message that names what is wrong.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runner import ENVIRONMENT, MODEL, MPIRUN, SHOAL, Failure, must_hold, run

SMALL = MODEL + """[data]
train = data/train
validation = data/val
[optim]
lr = 3e-3
warmup_steps = 2
[training]
seq_len = 32
global_batch_size = 4
steps = 8
device = cpu
[checkpoint]
interval = 5
[eval]
max_windows = 8
"""
SENTENCES = ["The shoal turned as one.", "No fish leads, and none is left behind.",
             "Each one watches a few others; that is enough.", "Light falls through the water.",
             "A current, a shadow, a turn: the whole moves before any part has decided."]


def shoal(*arguments, ranks=0, code=0, user=None):
    """Runs the program and returns its output; `code` is the exit code it must end with."""
    launch = [MPIRUN, "--oversubscribe", "--bind-to", "none", "-np", str(ranks)] if ranks else []
    return run([*launch, SHOAL, *arguments], code=code, user=user)


def losses(text):
    return dict(re.findall(r"^step\s+(\d+)/\d+\s+loss ([\d.]+)", text, re.M))


def write_corpus():
    lines = [SENTENCES[(i * i + 3 * i) % 5] + f" ({i})" for i in range(600)]
    Path("text").mkdir()
    Path("text/a.txt").write_text("\n".join(lines[:400]) + "\n")
    Path("text/b.txt").write_text("\n".join(lines[400:]) + "\n")
    Path("text/bad.txt").write_bytes(b"A line with a broken byte: \xff.\n" * 40)
    Path("small.ini").write_text(SMALL)


def resume_after_a_signal():
    """A signal in the middle leaves a checkpoint; the next call goes on from it exactly."""
    options = ("small.ini", "--steps=60")
    whole = losses(shoal("train", *options, "--run_dir=alone"))
    with subprocess.Popen([SHOAL, "train", *options, "--run_dir=parts"], stdout=subprocess.PIPE,
                          text=True, env=ENVIRONMENT) as process:
        for line in process.stdout:
            if line.startswith("step  3/"):
                process.send_signal(signal.SIGUSR1)
        code = process.wait(timeout=60)
    if code != 75:
        raise Failure(f"exit code {code} after a signal, expected 75")
    rest = losses(shoal("train", *options, "--run_dir=parts"))
    if not 0 < len(rest) < 60 or any(whole[step] != loss for step, loss in rest.items()):
        raise Failure(f"a continued run differs: {rest} against {whole}")


def life_of_a_model():
    """prepare, train, stop, resume, eval, generate, export, import, inspect, plan."""
    out = shoal("prepare", "text", "--output=data", "--documents=paragraph", "--tokenizer=train",
                "--tokenizer.vocab_size=300", "--val_fraction=0.1", "--max_replacement_ratio=1",
                ranks=2)
    must_hold(out, "repaired_documents", "vocab_size")
    must_hold(shoal("plan", "small.ini", "--ranks=2"), "dp=2", "total")
    must_hold(shoal("plan", "small.ini", "--ranks=2", "--data.train=nowhere",
                    "--data.validation=nowhere"), "vocabulary of 32768 assumed", "total")
    must_hold(shoal("train", "small.ini", "--dry-run"), "plan")

    whole = losses(shoal("train", "small.ini", "--run_dir=whole", ranks=2))
    if len(whole) != 8:
        raise Failure(f"expected 8 steps, got {whole}")
    resume_after_a_signal()

    out = shoal("eval", "whole", "--dataset=data/val", "--seq_len=32", ranks=2)
    must_hold(out, "perplexity", "bits per byte")
    first = shoal("generate", "whole", "--prompt=The shoal", "--max_tokens=12", "--seed=3")
    if first != shoal("generate", "whole", "--prompt=The shoal", "--max_tokens=12", "--seed=3"):
        raise Failure("the same seed gave another text")
    shoal("export", "whole", "--output=hf")
    shoal("import", "hf", "--output=again")
    logits = [shoal("generate", run, "--prompt=The shoal", "--print_logits=true")
              for run in ("whole", "again")]
    if logits[0] != logits[1]:
        raise Failure("export and import changed the logits")
    shoal("train", "small.ini", "--run_dir=tuned", "--steps=1", "--init-from=again/step-00000000")
    for path, words in (("data", "token dataset"), ("whole", "2 complete checkpoints"),
                        ("hf", "Hugging Face"), ("data/tokenizer.json", "a tokenizer of"),
                        ("whole/metrics.h5", "/train/loss"),
                        ("whole/step-00000008/index.h5", "/weights/embed_tokens")):
        must_hold(shoal("inspect", path), words)


def wrong_keys():
    Path("wrong.ini").write_text(SMALL + "[optim2]\nlr = 1\n")
    out = shoal("train", "wrong.ini", "--model.hiden_size=3", "--optim.lr=fast", code=2)
    must_hold(out, "3 problems", "optim2.lr", "did you mean \"model.hidden_size\"", "optim.lr",
              "fast")
    out = shoal("train", "small.ini", "--model.num_experts_per_tok=9", "--optim.kind=adam",
                "--precision=fp8", code=2)
    must_hold(out, "num_experts_per_tok", "optim.kind", "amf", "precision", "fp32")
    must_hold(shoal("train", "none.ini", code=2), "none.ini")
    must_hold(shoal("trian", code=2), "trian")
    must_hold(shoal("train", "small.ini", "--global_batch_size=3", ranks=2, code=2),
              "global_batch_size")
    must_hold(shoal("train", "small.ini", "--parallel.tp=3", ranks=2, code=2), "parallel")


def wrong_layouts():
    """Ranks that cannot share the model: said at once, with the key, before anything starts."""
    wide = "--model.num_key_value_heads=2"
    cases = ((3, (wide, "--parallel.tp=2"), ("-np 3", "parallel.tp x pp x cp = 2")),
             (2, ("--parallel.tp=2",), ("parallel.tp = 2", "model.num_key_value_heads = 1")),
             (3, ("--parallel.ep=3", "--global_batch_size=3"),
              ("parallel.ep = 3", "model.num_experts = 4")),
             (4, ("--parallel.ep=3",), ("parallel.ep = 3", "dp x tp = 4")),
             (2, ("--parallel.ep=2", "--model.num_experts=1"), ("parallel.ep = 2", "no experts")),
             (4, ("--parallel.pp=4",), ("parallel.pp = 4", "model.num_hidden_layers", "2")),
             (2, ("--parallel.pp=2", "--parallel.stages=2,1"),
              ("parallel.stages = 2,1", "adds up to 3")),
             (2, ("--parallel.pp=2", "--parallel.schedule=zbv"), ("parallel.chunks", "zbv")),
             (2, (wide, "--parallel.tp=2", "--model.capacity_factor=1"), ("capacity_factor",)),
             (4, (wide, "--parallel.tp=2", "--parallel.pp=2", "--global_batch_size=6",
                  "--micro_batch_size=4"), ("micro_batch_size = 4", "the 6 sequences")))
    for ranks, keys, words in cases:
        begin = time.monotonic()
        must_hold(shoal("train", "small.ini", *keys, "--run_dir=odd", ranks=ranks, code=2), *words)
        if time.monotonic() - begin > 10:
            raise Failure(f"{keys} on {ranks} ranks were refused after more than 10 s")
    for layout in ("dp=x", "dp=", "dp=2x", "dp=0", "tp=1,dp=-2"):
        out = shoal("verify-layout", "small.ini", f"--layout={layout}", code=2)
        must_hold(out, "verify.layout", layout.split(",")[-1], "dp must be a number")
    # Data parallel ranks alone share the batch: 8 / (2 x 2) of them.
    must_hold(shoal("plan", "small.ini", wide, "--parallel.tp=2", "--parallel.pp=2",
                    "--global_batch_size=6", "--ranks=8"), "dp=2")
    # The dataset decides the vocabulary, so this shows only when it is open.
    shoal("prepare", "text", "--output=bytes", "--tokenizer=bytes", "--val_fraction=0.1",
          "--max_replacement_ratio=1", "--documents=paragraph")
    odd = (wide, "--parallel.tp=2", "--data.train=bytes/train", "--data.validation=bytes/val",
           "--run_dir=odd")
    out = shoal("train", "small.ini", *odd, ranks=2, code=2)
    must_hold(out, "model.vocab_size = 257", "parallel.tp = 2", "258")
    must_hold(shoal("plan", "small.ini", *odd, "--ranks=2", code=2), "model.vocab_size = 257")
    shoal("train", "small.ini", *odd, "--model.vocab_size=258", "--steps=1", ranks=2)


def unreadable_text(prepare):
    """Root reads everything, so root becomes somebody else, if that user may run the program."""
    Path("secret.txt").write_text("text")
    Path("secret.txt").chmod(0)
    nobody = 65534 if os.geteuid() == 0 else None
    if nobody:
        Path.cwd().chmod(0o755)
    try:
        output = shoal(*prepare, "secret.txt", code=2, user=nobody)
    except PermissionError:
        print("skip  unreadable_text: another user cannot run the program here", flush=True)
        return
    must_hold(output, "secret.txt")


def wrong_text():
    Path("empty.txt").write_text("")
    Path("binary.txt").write_bytes(bytes(range(256)) * 64)
    prepare = ("prepare", "--output=bad", "--tokenizer=bytes")
    out = shoal(*prepare, "missing.txt", "empty.txt", "binary.txt", code=2)
    must_hold(out, "missing.txt", "empty.txt", "binary.txt")
    Path("broken.json").write_text('{"model": {"type": "BPE", "vocab": ')
    must_hold(shoal("prepare", "text", "--output=bad", "--tokenizer=broken.json", code=2),
              "broken.json")
    unreadable_text(prepare)
    if Path("bad").exists():
        raise Failure("a failed prepare left an output folder")


def wrong_files():
    shutil.copytree("data", "cut")
    shard = next(Path("cut/train").glob("*.h5"))
    shard.write_bytes(shard.read_bytes()[:-1])
    out = shoal("train", "small.ini", "--data.train=cut/train", "--run_dir=bad", code=2)
    must_hold(out, shard.name)
    must_hold(shoal("train", "small.ini", "--data.train=nowhere", "--run_dir=bad", code=2),
              "nowhere")
    out = shoal("train", "small.ini", "--model.vocab_size=20", "--run_dir=bad", code=2)
    must_hold(out, "vocab")
    out = shoal("train", "small.ini", "--model.hidden_size=48", "--run_dir=whole", code=2)
    must_hold(out, "whole")
    shutil.copytree("whole", "torn")
    (Path("torn/step-00000008") / "rank-00000.h5").unlink()
    must_hold(shoal("eval", "torn/step-00000008", "--dataset=data/val", code=2), "rank-00000.h5")
    must_hold(shoal("inspect", "text/a.txt", code=2), "text/a.txt")
    must_hold(shoal("import", "text", "--output=bad", code=2), "config.json")
    Path("hf2").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(Path("hf") / name, "hf2")
    text = Path("hf2/config.json").read_text()
    Path("hf2/config.json").write_text(text.replace('"silu"', '"gelu"'))
    must_hold(shoal("import", "hf2", "--output=bad", code=2), "hidden_act", "silu")


def refused_exports():
    shoal("train", "small.ini", "--run_dir=gated", "--steps=1", "--model.dynamic_heads=true",
          "--eval.interval=0")
    out = shoal("export", "gated", "--output=refused", code=2)
    must_hold(out, "dynamic_heads")
    must_hold(shoal("export", "whole", "--output=hf", code=2), "hf")


def main():
    checks = [life_of_a_model, wrong_keys, wrong_layouts, wrong_text, wrong_files, refused_exports]
    folder = tempfile.mkdtemp(prefix="shoal-cli-")
    os.chdir(folder)
    write_corpus()
    failed = 0
    for check in checks:
        try:
            check()
            print(f"ok    {check.__name__}", flush=True)
        except (Failure, subprocess.TimeoutExpired) as problem:
            failed += 1
            print(f"FAILED {check.__name__}: {problem}", flush=True)
            if check is life_of_a_model:
                break  # the others use what it made
    os.chdir("/")
    shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
