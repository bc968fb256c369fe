#!/usr/bin/env python3
"""Writes tests/ops/optimizer_golden.hpp: AdamW of PyTorch in float64, held against Shoal's reference.

Needs torch; never needed to build, run or test. Run from the repository's root.
"""
import torch

STEPS = 40
SETTINGS = dict(lr=2.0**-8, betas=(0.875, 0.96875), eps=2.0**-20, weight_decay=0.125)  # exact in fp32
START = [1.0, -0.5, 0.25, 2.0, -3.0]


def gradient(step, i):
    """Small integers over a power of two: exact in any format. Zero now and then."""
    return ((step * 7 + i * 13) % 17 - 8) / 16.0


def main():
    p = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = torch.optim.AdamW([p], foreach=False, **SETTINGS)
    rows = []
    for step in range(STEPS):
        p.grad = torch.tensor([gradient(step, i) for i in range(len(START))], dtype=torch.float64)
        optimizer.step()
        if step + 1 in (1, 2, 10, STEPS):
            rows.append((step + 1, p.detach().tolist()))
    with open("tests/ops/optimizer_golden.hpp", "w") as out:
        out.write("#pragma once\n")
        out.write(f"// Made by scripts/reference/make_optimizer_golden.py with torch {torch.__version__}:\n")
        out.write("// torch.optim.AdamW in float64, lr 2^-8, betas 0.875 and 0.96875, eps 2^-20,\n")
        out.write("// weight decay 0.125, gradient ((7 step + 13 i) mod 17 - 8) / 16.\n")
        out.write("#include <array>\n\nnamespace shoal::test {\n\n")
        out.write(f"inline constexpr std::array<double, {len(START)}> kAdamWStart = ")
        out.write("{" + ", ".join(repr(x) for x in START) + "};\n\n")
        out.write("struct AdamWGolden {\n  int steps;\n")
        out.write(f"  std::array<double, {len(START)}> p;\n}};\n")
        out.write(f"inline constexpr std::array<AdamWGolden, {len(rows)}> kAdamWGolden = {{{{\n")
        for steps, values in rows:
            out.write(f"    {{{steps}, {{" + ", ".join(repr(x) for x in values) + "}},\n")
        out.write("}};\n\n}  // namespace shoal::test\n")


if __name__ == "__main__":
    main()
