#!/usr/bin/env python3
"""Finds words and names that must not be in the repository: notes to self, paths of one machine.

Usage: check_words.py [ROOT]; looks at the files git tracks; exit 1 with one line a finding.
"""
import re
import subprocess
import sys
from pathlib import Path

# Code and documentation describe what is there, not what somebody meant to do.
NOTES = re.compile(r"\b(TODO|FIXME|XXX|HACK|WIP)\b|\b(stub|placeholder)s?\b", re.I)
# Absolute paths of somebody's machine; /tmp, /usr, /etc and /dev are everybody's.
PATHS = re.compile(r"(?<![\w.$}/-])/(work|home|root|Users|scratch|mnt)/[\w.-]+")
CONFLICT = re.compile(r"^(<{7}|>{7}) ")
BINARY = {".png", ".h5", ".gz", ".zst"}


def findings(path, name):
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return [f"{name}: not UTF-8"]
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, why in ((NOTES, "a note to self"), (PATHS, "a path of one machine"),
                             (CONFLICT, "a merge conflict")):
            match = pattern.search(line)
            if match:
                found.append(f"{name}:{number}: {why}: {match.group(0).strip()}")
    return found


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    listed = subprocess.run(["git", "-c", f"safe.directory={root}", "-C", str(root), "ls-files"],
                            capture_output=True, text=True)
    if listed.returncode != 0:
        print(f"words: skipped, not a git checkout ({listed.stderr.strip()})")
        return 0
    names = [n for n in listed.stdout.splitlines() if Path(n).suffix not in BINARY]
    skipped = {"scripts/lint/check_words.py", "LICENSE"}
    found = [line for n in names if n not in skipped and (root / n).is_file()
             for line in findings(root / n, n)]
    print("\n".join(found) if found else f"words: {len(names)} files are clean")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
