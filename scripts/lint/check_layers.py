#!/usr/bin/env python3
"""Checks that includes point down the layer table of src/README.md and never up or sideways.

Three rules:
  1. a file of layer L includes only headers of L and of what L may use (transitively);
  2. a third-party header that has an owner is included only by its owner;
  3. `shoal_layer(L USES ...)` in src/L/CMakeLists.txt says what the table says.
Usage: check_layers.py [ROOT]; exit 1 with one line a violation.
"""
import re
import sys
from pathlib import Path

# Header pattern -> the layers that may include it. JSON has two: both read tokenizer or data files.
OWNERS = {
    r"boost/": {"app"},
    r"mpi\.h": {"comm"},
    r"nccl\.h": {"comm"},
    r"(hdf5|H5\w*)\.h": {"io"},
    r"(zstd|zlib|libdeflate)\.h": {"io"},
    r"nlohmann/": {"io", "text"},
    r"(unicode/|pcre2\.h)": {"text"},
    r"xxhash\.h": {"io", "text"},
    r"(cublas|cublasLt|cublas_v2)\.h": {"device", "ops"},
    r"cblas\.h": {"device", "ops"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SOURCES = {".hpp", ".cpp", ".cu", ".cuh"}


def read_table(text):
    """Rows `| 4 | `ops` | tensor | ...` of the map -> {layer: direct uses}, in order."""
    table = {}
    for row in re.findall(r"^\|\s*\d+\s*\|\s*`(\w+)`\s*\|([^|]*)\|", text, re.M):
        uses = [name.strip(" `") for name in row[1].split(",")]
        table[row[0]] = [name for name in uses if name not in ("", "-")]
    return table


def closure(table):
    """{layer: itself and everything it may include}."""
    reach = {}
    for layer, uses in table.items():
        unknown = [name for name in uses if name not in reach]
        if unknown:
            raise SystemExit(f"src/README.md: {layer} uses {unknown}, not listed above it")
        reach[layer] = {layer}.union(*(reach[name] for name in uses))
    return reach


def include_of(line):
    match = INCLUDE.match(line)
    return match.group(2) if match else None


def layer_of_include(header):
    """"shoal/ops/gemm.hpp" and the private "ops/gemm_impl.hpp" both belong to ops."""
    parts = header.split("/")
    return parts[1] if parts[0] == "shoal" and len(parts) > 2 else parts[0]


def check_file(path, layer, reach):
    problems = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        header = include_of(line)
        if header is None:
            continue
        target = layer_of_include(header)
        if "/" in header and target in reach and target not in reach[layer]:
            problems.append(f"{path}:{number}: {layer} must not include {header} of {target}")
        for pattern, owners in OWNERS.items():
            if re.match(pattern, header) and layer not in owners:
                owner = " and ".join(sorted(owners))
                problems.append(f"{path}:{number}: {header} belongs to {owner}, not to {layer}")
    return problems


def check_cmake(root, table):
    problems = []
    for layer, uses in table.items():
        path = root / "src" / layer / "CMakeLists.txt"
        match = re.search(r"shoal_layer\(\s*" + layer + r"\b([^)]*)\)", path.read_text())
        if not match:
            problems.append(f"{path}: no shoal_layer({layer} ...)")
            continue
        words = match.group(1).split()
        named = []
        if "USES" in words:
            for word in words[words.index("USES") + 1:]:
                if word in ("PRIVATE", "PUBLIC"):
                    break
                named.append(word)
        if sorted(named) != sorted(uses):
            problems.append(f"{path}: USES {named}, but src/README.md says {uses}")
    return problems


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    table = read_table((root / "src" / "README.md").read_text())
    if not table:
        raise SystemExit("src/README.md holds no layer table")
    reach = closure(table)
    problems = check_cmake(root, table)
    checked = 0
    for base in (root / "include" / "shoal", root / "src"):
        for path in sorted(base.rglob("*")):
            if path.suffix not in SOURCES:
                continue
            layer = path.relative_to(base).parts[0]
            if layer not in reach:
                problems.append(f"{path}: folder {layer} is not in the layer table")
                continue
            problems += check_file(path, layer, reach)
            checked += 1
    print("\n".join(problems) if problems else f"layers: {checked} files point downwards")
    return 1 if problems or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
