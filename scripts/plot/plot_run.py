#!/usr/bin/env python3
"""Draws a run from its metrics.h5 alone: loss, learning rate, gradient norm, speed, experts' load.

Usage: plot_run.py RUN_FOLDER_OR_METRICS_H5 [OUTPUT.png]
Needs h5py and matplotlib (scripts/install_packages.sh --plots).
"""
import sys
from pathlib import Path

import h5py
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

BLUE, ORANGE, GREY = "#1f5fa8", "#d1662a", "#8a8a8a"


def smooth(values, window):
    """Running mean over the last `window` values; shorter at the start."""
    total = np.cumsum(np.insert(values, 0, 0.0))
    end = np.arange(1, len(values) + 1)
    begin = np.maximum(0, end - window)
    return (total[end] - total[begin]) / (end - begin)


def draw_loss(axes, train, validation):
    step, loss = train["step"][:], train["loss"][:]
    axes.plot(step, loss, color=BLUE, alpha=0.25, linewidth=0.8)
    axes.plot(step, smooth(loss, max(1, len(loss) // 50)), color=BLUE, label="training")
    if validation is not None and len(validation["step"]):
        axes.plot(validation["step"][:], validation["loss"][:], "o-", color=ORANGE, markersize=4,
                  label=f"validation, last {validation['loss'][-1]:.3f}")
    axes.set_ylabel("loss, nats a token")
    top = np.quantile(loss[len(loss) // 50:], 0.99) if len(loss) else 1.0
    low = np.nanmin(loss) if len(loss) else 0.0
    axes.set_ylim(low - 0.05 * (top - low + 0.1), top + 0.15 * (top - low + 0.1))
    axes.legend(frameon=False)


def draw_line(axes, train, column, label):
    values = train[column][:]
    axes.plot(train["step"][:], values, color=BLUE, linewidth=1.0)
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0.0)


def draw_speed(axes, train):
    """The first step warms up caches: the axis follows the rest."""
    values = train["tokens_per_second"][:]
    axes.plot(train["step"][:], values, color=BLUE, linewidth=0.8)
    if len(values):
        median = float(np.median(values))
        axes.axhline(median, color=GREY, linewidth=0.8, linestyle="--")
        axes.annotate(f"median {median:,.0f}", (0.98, 0.06), xycoords="axes fraction", ha="right",
                      color=GREY)
    axes.set_ylabel("tokens/s")
    axes.set_ylim(bottom=0.0)


def load_share(router, layer):
    """[steps, experts]: tokens of an expert over the even share."""
    counts = router["counts"][:, layer, :].astype(float)
    return counts / np.maximum(counts.mean(axis=1, keepdims=True), 1e-9)


def draw_router(figure, axes, router, layer, label):
    share = load_share(router, layer)
    step = router["step"][:]
    edges = (step[0] - 0.5, step[-1] + 0.5, share.shape[1] - 0.5, -0.5)
    image = axes.imshow(share.T, aspect="auto", extent=edges, cmap="RdBu_r", vmin=0.0, vmax=2.0,
                        interpolation="nearest")
    axes.set_ylabel(f"{label}: expert")
    axes.set_yticks(range(0, share.shape[1], max(1, share.shape[1] // 8)))
    figure.colorbar(image, ax=axes, label="load / even share", pad=0.01)


def draw(path, output):
    with h5py.File(path, "r") as file:
        train = file["train"]
        router = file["router"] if "router" in file and len(file["router/step"]) else None
        layers = [] if router is None else sorted({0, router["counts"].shape[1] - 1})
        rows = 2 + len(layers)
        figure = plt.figure(figsize=(11, 3.0 * rows), constrained_layout=True)
        grid = figure.add_gridspec(rows, 2)
        draw_loss(figure.add_subplot(grid[0, 0]), train, file.get("validation"))
        draw_line(figure.add_subplot(grid[0, 1]), train, "grad_norm", "gradient norm")
        draw_line(figure.add_subplot(grid[1, 0]), train, "lr", "learning rate")
        draw_speed(figure.add_subplot(grid[1, 1]), train)
        for row, layer in enumerate(layers):
            axes = figure.add_subplot(grid[2 + row, :])
            name = "first MoE layer" if layer == 0 else "last MoE layer"
            draw_router(figure, axes, router, layer, name)
        for axes in figure.axes:
            if axes.get_ylabel() and "load" not in axes.get_ylabel():
                axes.set_xlabel("step")
                axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(output, dpi=80)


def main():
    if not 2 <= len(sys.argv) <= 3:
        raise SystemExit(__doc__)
    path = Path(sys.argv[1])
    if path.is_dir():
        path /= "metrics.h5"
    if not path.is_file():
        raise SystemExit(f"{path}: no such file")
    output = Path(sys.argv[2]) if len(sys.argv) == 3 else path.with_name("run.png")
    draw(path, output)
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
