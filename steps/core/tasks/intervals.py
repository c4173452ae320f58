"""What is known of a metric from one test set: bootstrap intervals, and paired comparisons.

Intervals are percentile intervals (Efron 1979) over test samples that are resampled within their class;
two models are compared on the same resamples.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import binomtest

from steps.core.tasks.predictions import Floats, Ints, Predictions


def resamples(labels: Ints, draws: int, seed: int) -> Iterator[Ints]:
    """Yield `draws` bootstrap samples of the row numbers, each class as often as it is; repeatable."""
    generator = np.random.default_rng(seed)
    strata = [np.flatnonzero(labels == number) for number in np.unique(labels)]
    for _ in range(draws):
        yield np.concatenate([rows[generator.integers(0, len(rows), len(rows))] for rows in strata])


def interval(values: Floats, point: float, level: float) -> dict[str, float]:
    """Return value, low and high of a percentile interval."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return {"value": point, "low": float(low), "high": float(high)}


def metric_intervals(predictions: Predictions, draws: int, seed: int, level: float = 0.95) -> dict[str, Any]:
    """Return every metric as value, low, high."""
    everything = np.arange(len(predictions.labels))
    samples = list(resamples(predictions.strata, draws, seed))
    found = {}
    for name, metric in predictions.metrics.items():
        drawn = np.array([metric(predictions, rows) for rows in samples])
        found[name] = interval(drawn, metric(predictions, everything), level)
    return found


def paired_differences(
    better: Predictions, worse: Predictions, draws: int, seed: int, level: float = 0.95
) -> dict[str, Any]:
    """Return the paired difference of every metric, first model minus second."""
    if not np.array_equal(better.labels, worse.labels):
        raise ValueError("a paired comparison needs the same samples in the same order")
    everything = np.arange(len(better.labels))
    samples = list(resamples(better.strata, draws, seed))
    return {
        name: interval(
            np.array([metric(better, rows) - metric(worse, rows) for rows in samples]),
            metric(better, everything) - metric(worse, everything),
            level,
        )
        for name, metric in better.metrics.items()
    }


def mcnemar(one: Predictions, other: Predictions) -> dict[str, float]:
    """Count the samples that only one of two models answers rightly; p is McNemar's, exact, two-sided."""
    correct, rival = one.correct, other.correct
    won, lost = int((correct & ~rival).sum()), int((rival & ~correct).sum())
    p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return {"only_first": won, "only_second": lost, "p": p}
