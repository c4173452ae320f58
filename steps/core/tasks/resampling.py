"""What is drawn again from a test set: whole groups of samples, or single ones where there are no groups.

Samples of one patient, scene or session resemble each other, and so do the answers to them: how sure a figure
is follows from the number of groups (the cluster bootstrap; Davison and Hinkley 1997, section 3.8).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.core.tasks.predictions import Floats, Ints


def group_numbers(table: pd.DataFrame) -> Ints | None:
    """Return a number per row of a data set's table, shared within a group; None where there is no group.

    A row without a group is one by itself.
    """
    column: pd.Series[Any] | None = table.get("group")
    if column is None or column.isna().all():
        return None
    numbers = pd.factorize(column)[0].astype(np.int64)
    alone = numbers < 0
    numbers[alone] = numbers.max() + 1 + np.arange(alone.sum())
    return numbers


def resamples(groups: Ints, draws: int, seed: int) -> Iterator[Ints]:
    """Yield `draws` bootstrap samples of the row numbers (their lengths differ as the groups' sizes do).

    Args:
        groups: A number per row (n,), shared by rows that are drawn together.
        draws: How many.
        seed: The same seed gives the same samples.
    """
    generator = np.random.default_rng(seed)
    _, numbers, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(counts) == len(groups):
        for _ in range(draws):
            yield generator.integers(0, len(groups), len(groups))
        return
    members = np.split(np.argsort(numbers, kind="stable"), counts.cumsum()[:-1])
    for _ in range(draws):
        yield np.concatenate([members[k] for k in generator.integers(0, len(members), len(members))])


def group_sums(values: NDArray[Any], groups: Ints) -> Floats:
    """Add values (n,) up within each group (groups,)."""
    _, numbers = np.unique(groups, return_inverse=True)
    sums: Floats = np.bincount(numbers, weights=values).astype(np.float64)
    return sums


def mean_variance(values: Floats, groups: Ints) -> float:
    """Return the variance of the mean of values (n,) whose groups are drawn; groups may differ in size."""
    sums = group_sums(values - values.mean(), groups)
    return float(len(sums) / max(len(sums) - 1, 1) * (sums**2).sum() / len(values) ** 2)


def design_effect(values: Floats, groups: Ints) -> float:
    """Return how many times the variance of a mean of values (n,) is by groups what it is by samples.

    At least 1: that groups are by chance more alike than samples is no evidence.
    """
    by_samples = mean_variance(values, np.arange(len(values)))
    return max(1.0, mean_variance(values, groups) / by_samples) if by_samples > 0 else 1.0
