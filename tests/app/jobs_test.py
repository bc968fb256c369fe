#!/usr/bin/env python3
"""The job scripts without a cluster: `srun` is a script on PATH that starts mpirun.

Usage: jobs_test.py SHOAL_BINARY [MPIRUN]
Runs jobs/scaling.slurm with the program itself, and jobs/verify.slurm and a job script written by
`shoal plan` with a program that only notes how it was called.
"""
import os
import re
import stat
import tempfile
from pathlib import Path

from runner import ENVIRONMENT, MODEL, MPIRUN, SHOAL, Failure, must_hold, run

ROOT = Path(__file__).resolve().parents[2]
SRUN = """#!/bin/bash
# srun with the options that the jobs use.
ranks=1
while [[ $1 == --* ]]; do
  case $1 in --ntasks=*) ranks=${1#*=};; esac
  shift
done
exec "$MPIRUN" --oversubscribe --bind-to none -np "$ranks" "$@"
"""
NOTE = """#!/bin/bash
# Notes the call; verify-layout fails for the layout that the test chose.
echo "$*" >> "$CALLS"
case "$*" in *--layout=$BAD*) exit 1;; esac
exit 0
"""
SMALL = MODEL + """[data]
train = {folder}/data/train
[training]
seq_len = 32
device = cpu
"""


def program(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def environment(folder, **more):
    return dict(ENVIRONMENT, PATH=f"{folder}:{os.environ['PATH']}", MPIRUN=MPIRUN,
                SLURM_SUBMIT_DIR=str(ROOT), **more)


def job(words, env, code=0):
    return run(words, code=code, environment=env, timeout=300)


def scaling_writes_a_table(folder):
    (folder / "text.txt").write_text("A shoal turned as one, and nobody led.\n" * 200)
    env = environment(folder, SHOAL=SHOAL, INPUT=str(folder / "small.ini"), STEPS="6",
                      BATCH_PER_NODE="4", BATCH="8", SLURM_JOB_NUM_NODES="2",
                      SLURM_NTASKS_PER_NODE="1", SLURM_CPUS_PER_TASK="1", OUT=str(folder / "out"))
    job([SHOAL, "prepare", folder / "text.txt", "--tokenizer=bytes", "--val_fraction=0",
         "--max_badness=0", f"--output={folder}/data"], env)
    (folder / "small.ini").write_text(SMALL.format(folder=folder))
    text = job(["bash", ROOT / "jobs/scaling.slurm"], env)
    rows = re.findall(r"^\| (weak|strong) \| (\d) \| (\d) \| .* \| ([\d.]+) % \|$", text, re.M)
    if [row[:3] for row in rows] != [("weak", "1", "1"), ("weak", "2", "2"), ("strong", "1", "1"),
                                     ("strong", "2", "2")]:
        raise Failure(f"unexpected table:\n{text}")
    if rows[0][3] != "100.0" or rows[2][3] != "100.0":
        raise Failure(f"the smallest run is the reference:\n{text}")
    must_hold((folder / "out/table.md").read_text(), "| weak | 2 | 2 |")


def verify_runs_each_layout(folder):
    calls = folder / "calls"
    noting = program(folder / "note", NOTE)
    (folder / "data/train").mkdir(parents=True, exist_ok=True)
    (folder / "data/train/dataset.json").touch()
    env = environment(folder, SHOAL=noting, INPUT="x.ini", DATA=str(folder / "data"), BAD="pp=2",
                      CALLS=str(calls), LAYOUTS="tp=2,ep=2;pp=2;ep=4")
    text = job(["bash", ROOT / "jobs/verify.slurm"], env, code=1)
    must_hold(text, "tp=2,ep=2: equal to one rank", "pp=2: FAILED", "ep=4: equal to one rank")
    must_hold(calls.read_text(), f"verify-layout x.ini --layout=tp=2,ep=2 --data.train={folder}/data")
    env["LAYOUTS"] = "ep=4"
    job(["bash", ROOT / "jobs/verify.slurm"], env)


def planned_job_passes_its_layout(folder):
    calls = folder / "calls"
    calls.unlink(missing_ok=True)
    script = folder / "job.slurm"
    env = environment(folder, SHOAL=str(folder / "note"), CALLS=str(calls), BAD="none",
                      SLURM_JOB_ID="1")
    text = job([SHOAL, "plan", "--gpus=16", "--model", ROOT / "inputs/train/moe_100m.ini",
                f"--plan.write_sbatch={script}"], env)
    must_hold(text, "  1. tp=", "tokens/s", "advice: fits on 1 GPU", "published figures")
    must_hold(script.read_text(), "#SBATCH --nodes=2", "#SBATCH --ntasks=16")
    job(["bash", script, "--steps=3"], env)
    must_hold(calls.read_text(), "train ", "moe_100m.ini", "--restart=auto", "--parallel.tp=",
              "--training.micro_batch_size=", "--steps=3")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program(folder / "srun", SRUN)
        for test in (scaling_writes_a_table, verify_runs_each_layout, planned_job_passes_its_layout):
            test(folder)
            print(f"{test.__name__}: good", flush=True)


if __name__ == "__main__":
    main()
