"""How much better validation looks than it is, because things were chosen on it.

Temperature, thresholds and the candidate are all chosen on one validation set. Here they are chosen again on
four fifths of it and measured on the last fifth, in turn (nested cross-validation; Varma and Simon 2006,
"Bias in error estimation when using cross-validation for model selection"). What the trainings themselves
took from validation, the learning rates and the best epoch, is not chosen again: test alone answers for that.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from steps.core.features.linear_head import folds_of
from steps.core.tasks.predictions import Floats, Ints, Predictions
from steps.core.tasks.thresholds import fit_temperature_and_thresholds, predictions_of

FOLDS = 5


def validation_optimism(predictions: Mapping[str, Predictions], seed: int) -> dict[str, Any]:
    """Return the main metric and the log loss of the best model on validation, as it looks and cross-fitted.

    Args:
        predictions: Of every candidate on the same validation samples, whole groups of which are folded.
        seed: Of the folds.

    Returns:
        `metrics`: per metric `apparent`, chosen and measured on all samples, and `cross_fitted`, the mean
        over the folds of what was chosen without them; `folds`. Empty where groups or samples are too few.
    """
    first = next(iter(predictions.values()))
    everything = np.arange(len(first.labels))
    if len(np.unique(first.groups)) < FOLDS or len(everything) < 2 * FOLDS:
        return {}
    logits = {name: one.logits for name, one in predictions.items()}
    names = (first.main, "nll")
    apparent = chosen_on(logits, first, everything, everything)
    groups = [str(group) for group in first.groups]
    parts = [
        (len(held), chosen_on(logits, first, known, held))
        for known, held in folds_of(first.labels, groups, FOLDS, seed)
        if len(held)
    ]
    weights = [count for count, _ in parts]
    metrics = {
        name: {
            "apparent": apparent[name],
            "cross_fitted": float(np.average([part[name] for _, part in parts], weights=weights)),
        }
        for name in names
    }
    return {"metrics": metrics, "folds": len(parts)}


def chosen_on(logits: Mapping[str, Floats], first: Predictions, known: Ints, held: Ints) -> dict[str, float]:
    """Choose temperature, thresholds and model on the known rows; return the figures on the held-out ones."""
    best: tuple[float, float] | None = None
    found: dict[str, float] = {}
    for one in logits.values():
        chosen = fit_temperature_and_thresholds(one[known], first.labels[known])
        here, there = (predictions_of(one[rows], first.labels[rows], chosen) for rows in (known, held))
        rank = (value_of(here, first.main), -value_of(here, "nll"))
        if best is None or rank > best:
            best, found = rank, {name: value_of(there, name) for name in (first.main, "nll")}
    return found


def value_of(predictions: Predictions, name: str) -> float:
    """Return a metric of all rows."""
    return predictions.metrics[name](predictions, np.arange(len(predictions.labels)))
