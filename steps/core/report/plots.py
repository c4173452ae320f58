"""The figures of the report, as PNG data URIs: the page needs no other file."""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from steps.core.data.uris import png_uri

INK, ACCENT, PALE = "#1f2a37", "#0f766e", "#94a3b8"


def data_uri(figure: Figure) -> str:
    """Draw a figure, the same bytes every time, and close it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return png_uri(buffer.getvalue())


def confusion(counts: NDArray[np.float64], labels: list[str]) -> str:
    """Draw a confusion matrix, true class by predicted class, rows as fractions."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(12.0, 2.5 + 0.45 * len(labels))
    figure, axis = plt.subplots(figsize=(size, size))
    axis.imshow(share, cmap="BuGn", vmin=0, vmax=1)
    ticks = range(len(labels))
    axis.set_xticks(ticks, labels, rotation=90, fontsize=8, parse_math=False)
    axis.set_yticks(ticks, labels, fontsize=8, parse_math=False)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    if len(labels) <= 20:
        for row in ticks:
            for column in ticks:
                if count := int(counts[row, column]):
                    ink = "white" if share[row, column] > 0.6 else INK
                    axis.text(column, row, str(count), ha="center", va="center", color=ink, fontsize=8)
    return data_uri(figure)


def interval_plot(names: list[str], figures: Mapping[str, list[dict[str, float] | None]]) -> str:
    """Draw figures of 0 to 1 with their intervals, a row per name; None is left out."""
    figure, axis = plt.subplots(figsize=(6.0, 1.2 + 0.32 * len(names)))
    for number, (title, values) in enumerate(figures.items()):
        known = [(place, value) for place, value in enumerate(values) if value]
        y = [place + 0.22 * (number - (len(figures) - 1) / 2) for place, _ in known]
        x = [value["value"] for _, value in known]
        colour = (ACCENT, PALE, INK)[number % 3]
        axis.hlines(y, [v["low"] for _, v in known], [v["high"] for _, v in known], color=colour)
        axis.plot(x, y, "o", color=colour, label=title)
    axis.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.02)
    axis.legend(frameon=False, fontsize=8)
    return data_uri(figure)


def reliability(rows: Mapping[str, list[dict[str, float]]]) -> str:
    """Draw accuracy against confidence, before and after the temperature."""
    figure, axis = plt.subplots(figsize=(4.2, 4.2))
    axis.plot([0, 1], [0, 1], color=PALE, linestyle="--", linewidth=1)
    for name, colour in (("before", PALE), ("after", ACCENT)):
        points = [(row["confidence"], row["accuracy"], row["count"]) for row in rows[name]]
        x, y, count = zip(*points, strict=True)
        sizes = 20 + 180 * np.array(count) / sum(count)
        axis.plot(x, y, color=colour, linewidth=1)
        axis.scatter(x, y, s=sizes, color=colour, label=f"{name} the temperature", alpha=0.8)
    axis.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    axis.legend(frameon=False, fontsize=8)
    return data_uri(figure)


def coverage_curves(rows: Mapping[str, list[dict[str, float]]]) -> str:
    """Draw the accuracy of the answers that are kept against the share of samples that get one."""
    figure, axis = plt.subplots(figsize=(4.6, 3.4))
    for (name, points), colour in zip(rows.items(), (PALE, ACCENT, INK), strict=False):
        x, y = ([row[key] for row in points] for key in ("coverage", "accuracy"))
        axis.plot(x, y, color=colour, label=name.replace("_", " "))
    axis.set(xlim=(0, 1.02), xlabel="answered, the most confident first", ylabel="accuracy of these")
    axis.legend(frameon=False, fontsize=8)
    return data_uri(figure)


def pareto(rows: Sequence[Mapping[str, Any]]) -> str:
    """Draw test accuracy with its interval against latency; what was not trained is hollow, on validation."""
    figure, axis = plt.subplots(figsize=(4.6, 3.4))
    for row, marker in zip(rows, cycle("so^vDPX<>")):
        x, found = row["latency_p50_ms"], row["accuracy"]
        colour = PALE if found is None else ACCENT if row["front"] else INK
        y = row["as_is"] if found is None else found["value"]
        if found is not None:
            axis.plot([x, x], [found["low"], found["high"]], color=colour, linewidth=1)
        face = "none" if found is None else colour
        axis.scatter([x], [y], s=40, marker=marker, facecolor=face, edgecolor=colour, label=row["model"])
    axis.set(xlabel="latency of one sample, median, ms", ylabel="accuracy")
    axis.set_xlim(0, 1.1 * max(row["latency_p50_ms"] for row in rows))
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.18))
    return data_uri(figure)


def curves(histories: Mapping[str, list[dict[str, Any]]]) -> str:
    """Draw training and validation loss per epoch, a panel per model."""
    figure, axes = plt.subplots(1, len(histories), figsize=(3.6 * len(histories), 3.0), squeeze=False)
    for axis, (name, rows) in zip(axes[0], histories.items(), strict=True):
        epochs = [row["epoch"] for row in rows]
        mark = "o" if len(rows) == 1 else ""  # a head that was solved at once has no curve
        axis.plot(epochs, [row["train_loss"] for row in rows], color=PALE, marker=mark, label="train")
        axis.plot(epochs, [row["val_loss"] for row in rows], color=ACCENT, marker=mark, label="validation")
        axis.set_title(name.replace("_", " "), fontsize=10)
        axis.set_xlabel("epoch")
        axis.set_ylabel("loss, nats")
        axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return data_uri(figure)
