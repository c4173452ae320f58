"""Has a class lost recall? An exact test for each, at one error rate for all together.

Of a class's samples, those that only one of two models finds are by chance one model's or the other's, if
both are equally good: the sign test, by groups where there are groups. The tests of all classes are corrected
as Holm (1979) does; classes of which no outcome could be significant are left out first (Tarone 1990, "A
modified Bonferroni method for discrete data"). So of equal models at most 5 % are said to have lost a class.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from steps.core.tasks.comparisons import gain_interval, least_p_value, sign_flip_p
from steps.core.tasks.label_sets import LabelSetPredictions
from steps.core.tasks.predictions import Bools, Floats, Ints, Predictions

LOST, KEPT, TOO_FEW = "lost", "kept", "too few"


def class_losses(
    old: Predictions, new: Predictions, labels: Sequence[str], margin: float, alpha: float, level: float
) -> list[dict[str, Any]]:
    """Return a row for each class that occurs, the one most surely lost first.

    Columns: class, samples, value, low, high (of the recall gained), p (one-sided, corrected), verdict. It is
    `lost` where the loss is significant and larger than `margin`; `too few` where not even the loss of every
    answer that the old model had right would have been significant; else `kept`. `visible` is the least
    loss of recall that would have been, if no answer had been gained.
    """
    old_mask, new_mask = old.predicted_mask, matched_mask(old, new)
    present = np.flatnonzero(old.true_mask.any(axis=1))
    found_before = [old_mask[k, old.true_mask[k]] for k in present]
    gains = [
        new_mask[k, old.true_mask[k]].astype(np.int64) - before
        for k, before in zip(present, found_before, strict=True)
    ]
    groups = [old.groups[old.true_mask[k]] for k in present]
    pairs = list(zip(gains, groups, strict=True))
    able = decidable(np.array([least_p_value(*pair) for pair in pairs]), alpha)
    p = holm(np.array([sign_flip_p(-gain, group) for gain, group in pairs]), able)
    needed = losses_needed(min(len(able) + 1, len(present)), alpha)
    rows = []
    for k, (gain, group), before, chance in zip(present, pairs, found_before, p, strict=True):
        found = gain_interval(gain.astype(np.float64), group, level)
        lost = chance <= alpha and found["value"] < -margin
        could_lose = len(np.unique(group[before]))
        verdict = LOST if lost else KEPT if could_lose >= needed else TOO_FEW
        visible = min(1.0, needed / len(np.unique(group)))
        row = {"class": labels[int(k)], "samples": len(gain), **found, "p": float(chance)}
        rows.append({**row, "visible": visible, "verdict": verdict})
    return sorted(rows, key=lambda row: (row["verdict"] != LOST, row["p"], row["value"]))


def matched_mask(old: Predictions, new: Predictions) -> Bools:
    """Return which samples the new model says to be of a class (classes, n), as often as the old one does.

    Labels that may occur together have thresholds, and a higher one trades recall for precision: for them,
    the new model's likeliest samples are taken, as many as the old model said yes to.
    """
    if not isinstance(new, LabelSetPredictions):
        return new.predicted_mask
    ranks = np.argsort(np.argsort(-new.probabilities, axis=0, kind="stable"), axis=0, kind="stable")
    matched: Bools = old.predicted_mask.sum(axis=1)[:, None] > ranks.T
    return matched


def decidable(least: Floats, alpha: float) -> Ints:
    """Return which tests can be significant at all, by the least p-value that each could have (tests,)."""
    count = next(k for k in range(1, len(least) + 1) if (least <= alpha / k).sum() <= k)
    able: Ints = np.flatnonzero(least <= alpha / count)
    return able


def holm(p: Floats, able: Ints) -> Floats:
    """Return p-values (tests,) corrected for the number of those that are `able`; 1 for the others."""
    corrected = np.ones_like(p)
    order = able[np.argsort(p[able], kind="stable")]
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return corrected


def losses_needed(classes: int, alpha: float) -> int:
    """Return how many answers, or groups, a class must lose and none gain to be significant among so many."""
    return int(np.ceil(np.log2(classes / alpha)))


def losses_note(rows: Sequence[dict[str, Any]], shown: int) -> str:
    """Put the rows into one sentence."""
    lost = [row for row in rows if row["verdict"] == LOST]
    few = sum(row["verdict"] == TOO_FEW for row in rows)
    parts = [f"{row['class']} {row['value']:+.2f} (n {row['samples']}, p {row['p']:.2g})" for row in lost]
    said = "lost: " + "; ".join(parts[:shown]) if parts else "none is shown to have lost"
    kept = [row["visible"] for row in rows if row["verdict"] == KEPT]
    if kept:
        said += f"; in {len(kept)} of {len(rows)} a loss of {max(kept):.0%} or more would have been seen"
    return said + (f"; {few} of {len(rows)} have too few samples to tell" if few else "")
