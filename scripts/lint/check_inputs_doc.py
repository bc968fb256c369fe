#!/usr/bin/env python3
"""Checks that the table of keys in inputs/README.md is what `shoal help --keys` prints.

Usage: check_inputs_doc.py SHOAL_BINARY [--write]; --write puts the current table into the file.
"""
import subprocess
import sys
from pathlib import Path

BEGIN = "<!-- begin: shoal help --keys -->"
END = "<!-- end: shoal help --keys -->"


def main():
    arguments = [a for a in sys.argv[1:] if a != "--write"]
    if len(arguments) != 1:
        raise SystemExit(__doc__)
    path = Path(__file__).resolve().parents[2] / "inputs" / "README.md"
    text = path.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{path}: the markers are missing")
    keys = subprocess.run([arguments[0], "help", "--keys"], capture_output=True, text=True,
                          check=True).stdout.strip()
    head, rest = text.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    wanted = f"{head}{BEGIN}\n\n{keys}\n\n{END}{tail}"
    if wanted == text:
        print(f"inputs/README.md: {keys.count(chr(10)) + 1} lines match")
        return 0
    if "--write" in sys.argv:
        path.write_text(wanted)
        print("inputs/README.md: written")
        return 0
    print("inputs/README.md differs from `shoal help --keys`; run\n"
          f"  scripts/lint/check_inputs_doc.py {arguments[0]} --write")
    return 1


if __name__ == "__main__":
    sys.exit(main())
