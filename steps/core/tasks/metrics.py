"""Metrics of a classifier; `steps.core.tasks.intervals` says how sure they are.

ECE: Guo et al. 2017, "On calibration of modern neural
networks", 15 bins. AUROC: one class against the rest, a tie counts one half (Hand and Till 2001).
"""

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from steps.core.tasks.calibration_error import calibration_error
from steps.core.tasks.predictions import Bools, Metric, Predictions, rank_by_probability
from steps.core.tasks.predictions import Floats as Floats
from steps.core.tasks.predictions import Ints as Ints

LEAST_TEMPERATURE, MOST_TEMPERATURE = 1 / 3, 20.0
"""A network that was trained to the end is seldom too unsure, and never by more than a factor of three."""


class SingleLabelPredictions:
    """Probabilities (n, classes) and labels (n,), with what the metrics share worked out once."""

    def __init__(self, logits: Floats, labels: Ints, temperature: float, groups: Ints | None = None) -> None:
        """Take logits (n, classes); `temperature` divides them before the softmax; groups are as below."""
        self.labels, self.logits, self.temperature = labels, logits, temperature
        self.groups = np.arange(len(labels)) if groups is None else groups
        self.classes = logits.shape[1]
        self.uncalibrated = softmax(logits, axis=1)
        self.probabilities = softmax(logits / temperature, axis=1)
        self.predicted = logits.argmax(axis=1)
        self.nll = -log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels]

    main = "accuracy"
    validation_metrics: tuple[str, ...] = ("ece",)
    titles: Mapping[str, str] = {}

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """See `Predictions`."""
        return METRICS

    @cached_property
    def correct(self) -> Bools:
        """See `Predictions`."""
        correct: Bools = self.predicted == self.labels
        return correct

    @property
    def confidence(self) -> Floats:
        """See `Predictions`."""
        confidence: Floats = self.probabilities.max(axis=1)
        return confidence

    @property
    def true_mask(self) -> Bools:
        """See `Predictions`."""
        true_mask: Bools = self.labels[None] == np.arange(self.classes)[:, None]
        return true_mask

    @property
    def predicted_mask(self) -> Bools:
        """See `Predictions`."""
        predicted_mask: Bools = self.predicted[None] == np.arange(self.classes)[:, None]
        return predicted_mask

    @cached_property
    def ranking(self) -> tuple[Ints, Floats]:
        """See `rank_by_probability`."""
        return rank_by_probability(self.true_mask, self.probabilities)

    def as_texts(self, labels: list[str]) -> list[str]:
        """See `Predictions`."""
        return [labels[k] for k in self.predicted]

    def with_logits(self, logits: Floats) -> "SingleLabelPredictions":
        """See `Predictions`."""
        return SingleLabelPredictions(logits, self.labels, self.temperature, self.groups)

    def agreement(self, other: Predictions) -> float:
        """See `Predictions`."""
        return float((self.predicted == other.predicted).mean())

    def calibration_pairs(self, probabilities: Floats) -> tuple[Floats, Bools]:
        """See `Predictions`: that the likeliest class is the right one."""
        return probabilities.max(axis=1), probabilities.argmax(axis=1) == self.labels

    def confusion(self, rows: Ints) -> Floats:
        """Return counts (classes, classes), true class by predicted class."""
        cells = self.labels[rows] * self.classes + self.predicted[rows]
        counts = np.bincount(cells, minlength=self.classes**2).astype(float)
        return counts.reshape(self.classes, self.classes)


def accuracy(predictions: Predictions, rows: Ints) -> float:
    """Return the share of right answers."""
    return float(predictions.correct[rows].mean())


def balanced_accuracy(predictions: SingleLabelPredictions, rows: Ints) -> float:
    """Return the mean recall of the classes that occur."""
    counts = predictions.confusion(rows)
    present = counts.sum(axis=1) > 0
    return float((counts.diagonal()[present] / counts.sum(axis=1)[present]).mean())


def macro_f1(predictions: SingleLabelPredictions, rows: Ints) -> float:
    """Return the mean F1 of the classes that occur or are predicted."""
    return float(per_class(predictions.confusion(rows))["f1"].mean())


def negative_log_likelihood(predictions: SingleLabelPredictions, rows: Ints) -> float:
    """Return nats per sample, calibrated."""
    return float(predictions.nll[rows].mean())


def ece(predictions: SingleLabelPredictions, rows: Ints) -> float:
    """Return the calibrated probabilities' expected calibration error, a fraction of 1."""
    return calibration_error(predictions.probabilities[rows], predictions.labels[rows])


def ece_uncalibrated(predictions: SingleLabelPredictions, rows: Ints) -> float:
    """Return the same before the temperature."""
    return calibration_error(predictions.uncalibrated[rows], predictions.labels[rows])


def auroc_per_class(predictions: Predictions, rows: Ints) -> Floats:
    """Return the area under each class's ROC curve (classes,); NaN where it has no samples, or all."""
    orders, true_mask = predictions.ranking
    weights = np.bincount(rows, minlength=len(predictions.labels)).astype(float)[orders]
    positive = weights * true_mask
    negative = weights - positive
    won = (positive * negative.cumsum(axis=2)).sum(axis=2)
    pairs = positive.sum(axis=2) * negative.sum(axis=2)
    areas: Floats = np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0).mean(axis=0)
    return areas


def macro_auroc(predictions: Predictions, rows: Ints) -> float:
    """Return the mean area over the classes that have one; 1/2 where none has."""
    areas = auroc_per_class(predictions, rows)
    known = areas[~np.isnan(areas)]
    return float(known.mean()) if len(known) else 0.5


TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "macro_auroc": "macro AUROC",
    "map": "mAP, mean average precision",
    "nll": "log loss, nats",
    "ece": "ECE, calibrated",
    "ece_uncalibrated": "ECE, as trained",
}
"""What a page calls a metric, of both kinds of targets."""

METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "macro_auroc": macro_auroc,
    "nll": negative_log_likelihood,
    "ece": ece,
    "ece_uncalibrated": ece_uncalibrated,
}


def per_class(counts: Floats) -> dict[str, Floats]:
    """Return precision, recall, f1 (0 where undefined) per class that occurs or is predicted."""
    hits, truth, guessed = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    seen = (truth + guessed) > 0

    def ratio(top: Floats, bottom: Floats) -> Floats:
        quotient = np.zeros_like(top)
        np.divide(top, bottom, out=quotient, where=bottom > 0)
        seen_only: Floats = quotient[seen]
        return seen_only

    return {
        "precision": ratio(hits, guessed),
        "recall": ratio(hits, truth),
        "f1": ratio(2 * hits, truth + guessed),
        "support": truth[seen],
        "class": np.flatnonzero(seen).astype(float),
    }


def coverage(predictions: Predictions, steps: int = 20) -> list[dict[str, float]]:
    """Return the accuracy of the most confident answers, by the fraction of samples that are answered."""
    order = np.argsort(-predictions.confidence, kind="stable")
    correct = predictions.correct[order].cumsum()
    counts = sorted({max(1, round(len(correct) * step / steps)) for step in range(1, steps + 1)})
    return [
        {
            "coverage": n / len(correct),
            "accuracy": float(correct[n - 1] / n),
            "confidence": float(predictions.confidence[order[n - 1]]),
        }
        for n in counts
    ]


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """Return the temperature with the least negative log-likelihood of n samples and one mistake.

    The mistake is a pseudo-observation: the mean sample, of which the second likeliest class is the right
    one. Without it, answers that are all right would call for endless confidence.
    """
    rows, runner_up = np.arange(len(labels)), np.argsort(logits, axis=1)[:, -2:][:, 0]

    def loss(temperature: float) -> float:
        scaled = log_softmax(logits / temperature, axis=1)
        return -float(scaled[rows, labels].sum() + scaled[rows, runner_up].mean())

    return best_temperature(loss)


def best_temperature(loss: Callable[[float], float]) -> float:
    """Return the temperature of the least loss, between `LEAST_TEMPERATURE` and `MOST_TEMPERATURE`."""
    bounds = (np.log(LEAST_TEMPERATURE), np.log(MOST_TEMPERATURE))
    found = minimize_scalar(lambda power: loss(np.exp(power)), bounds=bounds, method="bounded")
    return float(np.exp(found.x))
