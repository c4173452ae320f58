"""How sure a figure from one test set is: exact intervals of shares, and intervals by groups of samples.

A share of right answers has the exact interval of Clopper and Pearson (1934). Where samples come in groups,
or a figure between 0 and 1 is no plain share (macro F1, AUROC, mAP), the interval is that of a share of as
many samples as would have the figure's variance (Korn and Graubard 1998, "Confidence intervals for
proportions with small expected number of positive counts estimated from survey data"). Unlike a percentile
of resamples it does not shrink to a point where every answer is right, or a class has one sample.

What is covered is the figure's expectation over test sets of this composition. Macro F1 of one or two samples
a class lies apart from that of a large test set.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
from scipy.stats import beta, t

from steps.core.tasks.calibration_error import calibration_interval
from steps.core.tasks.predictions import Floats, Ints, Predictions
from steps.core.tasks.resampling import group_sums, mean_variance, resamples

LEVEL = 0.95
FEW_GROUPS = 5  # in which an answer must occur for its spread over groups to be estimated
RANKINGS = ("macro_auroc", "map")
MACRO_AVERAGES = ("balanced_accuracy", "macro_f1")
CALIBRATION = ("ece", "ece_uncalibrated")
UNBOUNDED = ("nll",)


def interval(values: Floats, point: float, level: float) -> dict[str, float]:
    """Return value, low and high of a percentile interval (Efron 1979)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return {"value": point, "low": float(low), "high": float(high)}


def share_interval(
    value: float, variance: float, samples: float, groups: int, level: float = LEVEL
) -> dict[str, float]:
    """Return value, low and high of a figure between 0 and 1, as if it were a share of independent samples.

    Args:
        value: The figure.
        variance: Of the figure.
        samples: Independent samples that it is worth at most.
        groups: Independent groups behind the variance; where every answer is right, or wrong, it has none
            to be estimated from, and each group counts as one sample.
        level: Probability that the interval covers what it is about.
    """
    if groups < 2 or variance <= 0 or not 0 < value < 1:
        worth = min(samples, groups)
    else:
        ratio = t_quantile(max(samples, groups), level) / t_quantile(groups, level)
        worth = min(samples, value * (1 - value) / variance * ratio**2)
    hits, tail = value * worth, (1 - level) / 2
    low = beta.ppf(tail, hits, worth - hits + 1) if hits > 0 else 0.0
    high = beta.ppf(1 - tail, hits + 1, worth - hits) if hits < worth else 1.0
    return {"value": value, "low": float(min(low, value)), "high": float(max(high, value))}


def t_quantile(groups: float, level: float) -> float:
    """Return how many standard errors an interval reaches to either side of a mean over groups."""
    return float(t.ppf((1 + level) / 2, groups - 1))


def share_of(right: Any, groups: Ints, level: float = LEVEL) -> dict[str, float]:
    """Return the share of right answers (n,) with its interval: exact where no two share a group.

    Where the rarer answer occurs in fewer than `FEW_GROUPS` groups, these do not tell how alike the samples
    of a group are, and a group counts as one sample.
    """
    values, count = np.asarray(right, dtype=np.float64), len(np.unique(groups))
    value = float(values.mean())
    if count == len(values):
        return share_interval(value, value * (1 - value) / count, count, count, level)
    rarer = values if value <= 0.5 else 1 - values
    few = np.count_nonzero(group_sums(rarer, groups)) < FEW_GROUPS
    return share_interval(value, mean_variance(values, groups), count if few else len(values), count, level)


def mean_interval(values: Floats, groups: Ints, level: float = LEVEL) -> dict[str, float]:
    """Return the mean of values (n,) with Student's interval over the groups; endless with one group."""
    value, count = float(values.mean()), len(np.unique(groups))
    half = t_quantile(count, level) * np.sqrt(mean_variance(values, groups)) if count > 1 else np.inf
    return {"value": value, "low": value - float(half), "high": value + float(half)}


def independent_samples(name: str, predictions: Predictions) -> float:
    """Return the independent samples that a figure is worth at most, by the sizes of its classes.

    A macro average of K classes of n_k samples has at best the variance of K**2 / sum(1 / n_k) samples. A
    ranking has two sides, of which the smaller one counts; of two classes both have the same area.
    """
    counts = predictions.true_mask.sum(axis=1)
    total = float(len(predictions.labels))
    if name not in (*RANKINGS, *MACRO_AVERAGES):
        return total
    if name in RANKINGS:
        counts, total = np.minimum(counts, total - counts), max(total / 2, 1)
    known = counts[counts > 0]
    return float(min(total, len(known) ** 2 / (1 / known).sum())) if len(known) else 1.0


def bootstrap_variance(drawn: Floats, groups: int) -> Floats:
    """Return the variance over resamples (draws, ...) by groups, made up for what a resample lacks."""
    found: Floats = np.nanvar(drawn, axis=0) * groups / max(groups - 1, 1)
    return found


def metric_intervals(
    predictions: Predictions,
    draws: int,
    seed: int,
    level: float = LEVEL,
    names: Collection[str] | None = None,
) -> dict[str, dict[str, float]]:
    """Return the metrics (None: all) as value, low, high, from `draws` resamples of the groups."""
    everything = np.arange(len(predictions.labels))
    count = len(np.unique(predictions.groups))
    samples = list(resamples(predictions.groups, draws, seed))
    found = {}
    for name in predictions.metrics if names is None else names:
        metric = predictions.metrics[name]
        if name == "accuracy":
            found[name] = share_of(predictions.correct, predictions.groups, level)
        elif name in CALIBRATION:
            probabilities = predictions.probabilities if name == "ece" else predictions.uncalibrated
            found[name] = calibration_interval(predictions, probabilities, draws, seed, level)
        elif name in UNBOUNDED:
            found[name] = mean_interval(predictions.nll, predictions.groups, level)
        else:
            drawn = np.array([metric(predictions, rows) for rows in samples])
            variance = float(bootstrap_variance(drawn, count))
            worth = independent_samples(name, predictions)
            found[name] = share_interval(metric(predictions, everything), variance, worth, count, level)
    return found
