"""How a model comes from logits to answers: a temperature and, for label sets, a threshold per label.

Both are chosen on validation. A model that has thresholds answers with sets.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from steps.core.tasks.label_sets import LabelSetPredictions, losses
from steps.core.tasks.labelling import join_labels
from steps.core.tasks.metrics import SingleLabelPredictions, best_temperature, fit_temperature
from steps.core.tasks.predictions import Floats, Ints, Predictions

DEFAULT_THRESHOLD = 0.5  # the threshold of a label for which validation has nothing to say


def predictions_of(
    logits: Floats, labels: Ints, meta: Mapping[str, Any], groups: Ints | None = None
) -> Predictions:
    """Return the answers of a model; labels are (n,) class numbers, or (n, classes) indicators.

    `meta` is the model's: its temperature and, where it answers with sets, its thresholds. `groups` has a
    number per sample (n,); see `Predictions`.
    """
    if labels.ndim == 1:
        return SingleLabelPredictions(logits, labels, meta["temperature"], groups)
    return LabelSetPredictions(logits, labels, meta["temperature"], np.array(meta["thresholds"]), groups)


def answers_of(logits: Floats, meta: Mapping[str, Any]) -> list[str]:
    """Return a model's answers as texts, by its logits (n, classes); the truth need not be known."""
    names = np.array(meta["labels"], dtype=object)
    if "thresholds" not in meta:
        return [str(name) for name in names[logits.argmax(axis=1)]]
    there = expit(logits / meta["temperature"]) >= np.array(meta["thresholds"])
    return [join_labels(names[row]) for row in there]


def fit_temperature_and_thresholds(logits: Floats, labels: Ints) -> dict[str, Any]:
    """Return what is chosen on validation for a model to answer: temperature, and of sets thresholds."""
    if labels.ndim == 1:
        return {"temperature": round(fit_temperature(logits, labels), 4)}
    mistaken = (logits <= 0).astype(np.int64)

    def loss(temperature: float) -> float:  # of all decisions, and one mistake; see `fit_temperature`
        scaled = logits / temperature
        return float(losses(scaled, labels).sum() + losses(scaled, mistaken).mean())

    temperature = round(best_temperature(loss), 4)
    return {
        "temperature": temperature,
        "thresholds": [
            choose_threshold(column, truth)
            for column, truth in zip(expit(logits / temperature).T, labels.T, strict=True)
        ],
    }


def choose_threshold(probabilities: Floats, labels: Ints) -> float:
    """Return the threshold (n,) of the best F1: the middle of the gap, and of equals the most even.

    A label that is in no sample, or in all of them, gets one half.
    """
    if not 0 < labels.sum() < len(labels):
        return DEFAULT_THRESHOLD
    order = np.argsort(-probabilities, kind="stable")
    falling, hits = probabilities[order], labels[order].cumsum()
    f1 = 2 * hits / (np.arange(1, len(labels) + 1) + labels.sum())
    below = np.append(falling[1:], 0.0)
    f1[falling == below] = -1.0  # equal probabilities are answered alike
    middles = (falling + below) / 2
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    return float(middles[best[np.abs(middles[best] - DEFAULT_THRESHOLD).argmin()]])


def format_prediction(logits: Floats, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's answer to one sample, by its logits (classes,), in the words of its labels."""
    scaled, names = logits / meta["temperature"], meta["labels"]
    if "thresholds" not in meta:
        probabilities = softmax(scaled)
        answer: dict[str, Any] = {"label": names[int(probabilities.argmax())]}
    else:
        probabilities = expit(scaled)
        there = probabilities >= np.array(meta["thresholds"])
        answer = {"labels": [name for name, yes in zip(names, there, strict=True) if yes]}
    return {**answer, "probabilities": dict(zip(names, probabilities.tolist(), strict=True))}
