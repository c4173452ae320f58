"""Two models on the same test samples: paired intervals, and exact tests of who is right more often.

The gain in accuracy has the interval of Bonett and Price (2012, "Adjusted Wald confidence interval for a
difference of binomial proportions based on paired data"), which adds one sample to each kind of disagreement
and so is not a point where the models never disagree. Other figures have Student's interval, its variance
from resamples that both models share. Where samples come in groups, all of it is by groups.
"""

from collections.abc import Collection

import numpy as np
from scipy.stats import binomtest

from steps.core.tasks.intervals import (
    LEVEL,
    UNBOUNDED,
    bootstrap_variance,
    independent_samples,
    t_quantile,
)
from steps.core.tasks.predictions import Bools, Floats, Ints, Predictions
from steps.core.tasks.resampling import design_effect, group_sums, resamples


def paired_differences(
    better: Predictions,
    worse: Predictions,
    draws: int,
    seed: int,
    level: float = LEVEL,
    names: Collection[str] | None = None,
) -> dict[str, dict[str, float]]:
    """Return the paired difference of the metrics, first model minus second, as value, low, high.

    `names` are the wanted metrics; None: all.

    Raises:
        ValueError: They are not of the same samples.
    """
    if not np.array_equal(better.labels, worse.labels):
        raise ValueError("a paired comparison needs the same samples in the same order")
    everything, groups = np.arange(len(better.labels)), len(np.unique(better.groups))
    samples = list(resamples(better.groups, draws, seed))
    found = {}
    for name in better.metrics if names is None else names:
        if name == "accuracy":
            found[name] = accuracy_difference(better, worse, level)
            continue
        metric = better.metrics[name]
        value = metric(better, everything) - metric(worse, everything)
        drawn = np.array([metric(better, rows) - metric(worse, rows) for rows in samples])
        worth = None if name in UNBOUNDED else independent_samples(name, better)
        found[name] = difference_interval(value, drawn, worth, groups, level)
    return found


def difference_interval(
    value: float, drawn: Floats, samples: float | None, groups: int, level: float
) -> dict[str, float]:
    """Return value, low, high of a difference by its resamples (draws,).

    `samples` bounds the standard error of a difference of figures between 0 and 1 from below: it is at least
    what Bonett and Price give to two models that never disagree on that many. None: it has no bound.
    """
    if groups < 2:
        ends = (-1.0, 1.0) if samples is not None else (-np.inf, np.inf)
        return {"value": value, "low": ends[0], "high": ends[1]}
    error = float(np.sqrt(bootstrap_variance(drawn, groups)))
    if samples is None:
        half = t_quantile(groups, level) * error
        return {"value": value, "low": value - half, "high": value + half}
    half = t_quantile(groups, level) * max(error, np.sqrt(2) / (samples + 2))
    return {"value": value, "low": max(-1.0, value - half), "high": min(1.0, value + half)}


def accuracy_difference(better: Predictions, worse: Predictions, level: float = LEVEL) -> dict[str, float]:
    """Return the gain in accuracy as value, low, high; see `gain_interval`."""
    return gain_interval(better.correct.astype(np.float64) - worse.correct, better.groups, level)


def gain_interval(gain: Floats, groups: Ints, level: float) -> dict[str, float]:
    """Return the mean of gains (n,) of -1, 0 or 1 with Bonett and Price's interval.

    `groups` (n,) has a number per sample; the samples count as many as the groups are worth.
    """
    samples, count = len(gain), len(np.unique(groups))
    worth = float(samples)
    if count < 2 and samples > 1:
        return {"value": float(gain.mean()), "low": -1.0, "high": 1.0}
    if count < samples:
        shrink = (t_quantile(samples, level) / t_quantile(count, level)) ** 2
        worth = samples / design_effect(gain, groups) * shrink if gain.any() else count
    won, lost = (float((gain == sign).mean()) * worth for sign in (1, -1))
    more, less = (won + 1) / (worth + 2), (lost + 1) / (worth + 2)
    error = np.sqrt((more + less - (more - less) ** 2) / (worth + 2))
    half = t_quantile(np.inf, level) * error
    value = float(gain.mean())
    low, high = max(-1.0, more - less - half), min(1.0, more - less + half)
    return {"value": value, "low": float(min(low, value)), "high": float(max(high, value))}


def paired_test(one: Predictions, other: Predictions) -> dict[str, float]:
    """Count the samples that only one of two models answers rightly, and test whether one does so more often.

    `p` is two-sided, `p_better` one-sided: the probability, if both were equally good, that the first wins by
    at least so much. Without groups it is McNemar's exact test; see `sign_flip_p`.
    """
    gain = one.correct.astype(np.int64) - other.correct
    better, worse = (sign_flip_p(sign * gain, one.groups) for sign in (1, -1))
    return {
        "only_first": int((gain > 0).sum()),
        "only_second": int((gain < 0).sum()),
        "p": min(1.0, 2 * min(better, worse)),
        "p_better": better,
    }


def sign_flip_p(gain: Ints, groups: Ints) -> float:
    """Return the exact one-sided p-value of a sum of whole numbers (n,) whose groups may be turned round.

    If two models are equally good, it is by chance which of them is the first: each group's sum would as well
    have the other sign. Of groups of one sample this is the sign test, and McNemar's.
    """
    sums = group_sums(gain, groups).astype(np.int64)
    sizes = np.abs(sums[sums != 0])
    total = int(sums.sum())
    if not len(sizes):
        return 1.0
    if sizes.max() == 1:
        return float(binomtest(int((sums > 0).sum()), len(sizes), alternative="greater").pvalue)
    reach = int(sizes.sum())
    chances = np.zeros(2 * reach + 1)  # of a sum of -reach, ..., reach
    chances[reach] = 1.0
    for size in sizes:
        chances = (np.roll(chances, size) + np.roll(chances, -size)) / 2
    return min(1.0, float(chances[reach + total :].sum()))


def least_p_value(gain: Ints, groups: Ints) -> float:
    """Return the least p-value that `sign_flip_p` can have for gains of these sizes (n,)."""
    return float(0.5 ** np.count_nonzero(group_sums(gain, groups)))


def swap_test_p(one: Predictions, other: Predictions, draws: int, seed: int) -> float:
    """Return the one-sided p-value of "the first is no better by its main metric", for any metric.

    If two models are equally good, it is by chance which of them answered: in each of `draws` trials, the
    answers to a random half of the groups are exchanged (Good 2005, "Permutation, parametric and bootstrap
    tests of hypotheses").
    """
    generator = np.random.default_rng(seed)
    _, numbers = np.unique(one.groups, return_inverse=True)
    everything, metric = np.arange(len(one.labels)), one.metrics[one.main]
    mine, its = one.logits / one.temperature, other.logits / other.temperature

    def gain(exchanged: Bools) -> float:
        pairs = ((one, mine, its), (other, its, mine))
        first, second = (
            metric(model.with_logits(np.where(exchanged, theirs, own) * model.temperature), everything)
            for model, own, theirs in pairs
        )
        return first - second

    seen = gain(np.zeros((len(numbers), 1), dtype=bool))
    flips = generator.random((draws, numbers.max() + 1)) < 0.5
    reached = sum(gain(flip[numbers, None]) >= seen - 1e-12 for flip in flips)
    return float((1 + reached) / (1 + draws))
