"""Answers that are sets of labels: thresholds chosen on validation, metrics per label and over all.

A macro average is over the labels for which the figure exists: AUROC needs samples with and without the
label, average precision one with it.
Average precision is scikit-learn's: precision at every threshold, weighted by the recall gained there.
"""

import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import expit, log_expit

from steps.core.tasks.calibration_error import ECE_BINS, bin_numbers
from steps.core.tasks.intervals import LEVEL, bootstrap_variance, share_interval
from steps.core.tasks.labelling import join_labels
from steps.core.tasks.metrics import accuracy, auroc_per_class, macro_auroc, negative_log_likelihood
from steps.core.tasks.predictions import Bools, Floats, Ints, Metric, Predictions, rank_by_probability
from steps.core.tasks.resampling import resamples


class LabelSetPredictions:
    """Probabilities (n, classes), indicators (n, classes) and thresholds (classes,)."""

    main = "map"
    validation_metrics: tuple[str, ...] = ("macro_auroc", "map", "macro_f1", "ece")
    titles: Mapping[str, str] = {
        "accuracy": "accuracy, all labels of a sample right",
        "nll": "log loss, nats a label",
    }

    def __init__(
        self, logits: Floats, labels: Ints, temperature: float, thresholds: Floats, groups: Ints | None = None
    ) -> None:
        """Take logits (n, classes); `temperature` divides them; the thresholds are of probabilities."""
        self.labels, self.logits, self.temperature = labels, logits, temperature
        self.thresholds = thresholds
        self.groups = np.arange(len(labels)) if groups is None else groups
        self.uncalibrated: Floats = expit(logits)
        self.probabilities: Floats = expit(logits / temperature)
        self.predicted: Bools = self.probabilities >= thresholds
        self.nll: Floats = losses(logits / temperature, labels).mean(axis=1)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """See `Predictions`."""
        return SET_METRICS

    @cached_property
    def correct(self) -> Bools:
        """See `Predictions`."""
        correct: Bools = (self.predicted == self.labels).all(axis=1)
        return correct

    @property
    def confidence(self) -> Floats:
        """See `Predictions`: as if the labels were independent of each other."""
        yes = np.where(self.predicted, self.probabilities, 1 - self.probabilities)
        confidence: Floats = yes.prod(axis=1)
        return confidence

    @property
    def true_mask(self) -> Bools:
        """See `Predictions`."""
        return self.labels.T > 0

    @property
    def predicted_mask(self) -> Bools:
        """See `Predictions`."""
        return self.predicted.T

    @cached_property
    def ranking(self) -> tuple[Ints, Floats]:
        """See `rank_by_probability`."""
        return rank_by_probability(self.true_mask, self.probabilities)

    @cached_property
    def descending(self) -> tuple[Ints, Floats, Ints]:
        """Rows in falling order of each label's probability, 1 where it is there, the end of each tie.

        All (classes, n).
        """
        order = self.ranking[0][0][:, ::-1]
        scores = np.take_along_axis(self.probabilities.T, order, 1)
        last = np.ones(scores.shape, dtype=bool)
        last[:, :-1] = scores[:, 1:] != scores[:, :-1]
        places = np.where(last, np.arange(scores.shape[1]), scores.shape[1])
        ends = np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1]
        return order, np.take_along_axis(self.true_mask, order, 1).astype(float), ends

    @cached_property
    def calibration_cells(self) -> Ints:
        """The calibration bin of each probability, numbered over all labels (n, classes)."""
        return bin_numbers(self.probabilities) + ECE_BINS * np.arange(self.probabilities.shape[1])

    def as_texts(self, labels: list[str]) -> list[str]:
        """See `Predictions`."""
        return [join_labels(np.array(labels, dtype=object)[row]) for row in self.predicted]

    def with_logits(self, logits: Floats) -> "LabelSetPredictions":
        """See `Predictions`."""
        return LabelSetPredictions(logits, self.labels, self.temperature, self.thresholds, self.groups)

    def agreement(self, other: Predictions) -> float:
        """See `Predictions`: of the labels that either says (Dice 1945), not of those that both leave out."""
        said = self.predicted.sum() + other.predicted.sum()
        return float(2 * (self.predicted & other.predicted).sum() / said) if said else 1.0

    def calibration_pairs(self, probabilities: Floats) -> tuple[Floats, Bools]:
        """See `Predictions`: that a label is there."""
        return probabilities.ravel(), self.labels.ravel() > 0

    def counts(self, rows: Ints) -> tuple[Floats, Floats, Floats]:
        """Return hits, answers and true labels, per label (classes,)."""
        weights = np.bincount(rows, minlength=len(self.labels)).astype(float)
        return (
            weights @ (self.predicted & (self.labels > 0)),
            weights @ self.predicted,
            weights @ self.labels,
        )


def losses(logits: Floats, labels: Ints) -> Floats:
    """Return binary cross-entropies (n, classes), in nats."""
    found: Floats = -log_expit(np.where(labels > 0, logits, -logits))
    return found


def f1_per_label(predictions: LabelSetPredictions, rows: Ints) -> Floats:
    """Return F1 (classes,); NaN for a label that neither occurs nor is answered."""
    hits, predicted, true = predictions.counts(rows)
    return ratio(2 * hits, predicted + true)


def ratio(top: Floats, bottom: Floats) -> Floats:
    """Divide; NaN by 0."""
    found: Floats = np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
    return found


def macro_f1(predictions: LabelSetPredictions, rows: Ints) -> float:
    """Return the mean F1 of the labels that occur or are answered; 0 where none does."""
    return mean_known(f1_per_label(predictions, rows), 0.0)


def micro_f1(predictions: LabelSetPredictions, rows: Ints) -> float:
    """Return F1 over all decisions."""
    hits, predicted, true = (part.sum() for part in predictions.counts(rows))
    return float(2 * hits / (predicted + true)) if predicted + true else 0.0


def precision_per_label(predictions: LabelSetPredictions, rows: Ints) -> Floats:
    """Return average precision (classes,); NaN for a label that does not occur."""
    order, true_mask, ends = predictions.descending
    weights = np.bincount(rows, minlength=len(predictions.labels)).astype(float)[order]
    hits = weights * true_mask
    predicted, found = weights.cumsum(axis=1), hits.cumsum(axis=1)
    precision = np.divide(found, predicted, out=np.zeros_like(found), where=predicted > 0)
    return ratio((hits * np.take_along_axis(precision, ends, 1)).sum(axis=1), hits.sum(axis=1))


def mean_average_precision(predictions: LabelSetPredictions, rows: Ints) -> float:
    """Return the mean average precision of the labels that occur; 0 where none does."""
    return mean_known(precision_per_label(predictions, rows), 0.0)


def mean_known(values: Floats, otherwise: float) -> float:
    """Return the mean of what is not NaN."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else otherwise


def ece_per_label(predictions: LabelSetPredictions, rows: Ints) -> Floats:
    """Return the gap between a label's probability and how often it is there, over bins (classes,)."""
    weights = np.bincount(rows, minlength=len(predictions.labels)).astype(float)
    gaps = (predictions.labels - predictions.probabilities) * weights[:, None]
    classes = gaps.shape[1]
    sums = np.bincount(
        predictions.calibration_cells.ravel(), weights=gaps.ravel(), minlength=classes * ECE_BINS
    )
    found: Floats = np.abs(sums).reshape(classes, ECE_BINS).sum(axis=1) / weights.sum()
    return found


def macro_ece(predictions: LabelSetPredictions, rows: Ints) -> float:
    """Return the mean over the labels of their calibration error, a fraction of 1."""
    return float(ece_per_label(predictions, rows).mean())


SET_METRICS: dict[str, Metric] = {
    "macro_auroc": macro_auroc,
    "map": mean_average_precision,
    "macro_f1": macro_f1,
    "micro_f1": micro_f1,
    "accuracy": accuracy,
    "nll": negative_log_likelihood,
    "ece": macro_ece,
}


def label_rows(
    predictions: LabelSetPredictions, labels: list[str], draws: int, seed: int
) -> list[dict[str, Any]]:
    """Return a row per label: threshold, precision, recall, support, and figures with 95 % intervals."""
    everything = np.arange(len(predictions.labels))
    samples = list(resamples(predictions.groups, draws, seed))
    groups = len(np.unique(predictions.groups))
    hits, predicted, true = predictions.counts(everything)
    rarer = np.minimum(true, len(everything) - true)
    plain = {"precision": ratio(hits, predicted), "recall": ratio(hits, true)}
    figures = {
        "f1": (f1_per_label, true),
        "auroc": (auroc_per_class, rarer),
        "average_precision": (precision_per_label, rarer),
        "ece": (ece_per_label, np.full(len(labels), float(len(everything)))),
    }
    points = {name: figure(predictions, everything) for name, (figure, _) in figures.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a label that is in no resample has no variance
        variances = {
            name: bootstrap_variance(np.stack([figure(predictions, rows) for rows in samples]), groups)
            for name, (figure, _) in figures.items()
        }
    return [
        {
            "class": label,
            "threshold": float(predictions.thresholds[k]),
            "support": float(true[k]),
            **{name: float(np.nan_to_num(column[k])) for name, column in plain.items()},
            **{name: none_if_nan(points[name][k]) or 0.0 for name in ("f1", "ece")},
            "auroc": none_if_nan(points["auroc"][k]),
            "intervals": {
                name: interval_or_none(points[name][k], variances[name][k], worth[k], groups)
                for name, (_, worth) in figures.items()
            },
        }
        for k, label in enumerate(labels)
    ]


def none_if_nan(value: float) -> float | None:
    """Return a number, or None for NaN."""
    return None if np.isnan(value) else float(value)


def interval_or_none(point: float, variance: float, worth: float, groups: int) -> dict[str, float] | None:
    """Return the interval of what could be measured; None where the point could not."""
    if np.isnan(point):
        return None
    return share_interval(float(point), float(np.nan_to_num(variance)), max(worth, 1.0), groups, LEVEL)
