"""Which stages the head reads and which train, by what the pretrained features give on this data.

Heads on every stage, and on several stages together, are compared by cross-validation on train and
validation: the features of one pass hold all that is needed. Of equals the cheaper one is taken, as
of models; see `choose_candidate`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from steps.core.backbones.readout import Readout
from steps.core.features.batches import Cache
from steps.core.features.linear_head import choose_head, groups_of
from steps.core.features.settings import HeadSettings
from steps.core.features.vectors import read_vectors
from steps.core.strategy.candidates import Cost, cheapest_of_equals, compare
from steps.core.system.errors import BackboneError
from steps.core.system.progress import count
from steps.core.tasks import targets
from steps.core.tasks.intervals import metric_intervals
from steps.core.tasks.predictions import Predictions
from steps.core.tasks.thresholds import fit_temperature_and_thresholds, predictions_of
from steps.core.training.objectives import weights_of_classes


class Comparison(NamedTuple):
    """What heads on several readouts gave on samples that they had not seen."""

    chosen: Readout
    rows: list[dict[str, Any]]
    """Of each readout a `CandidateRow`, what it is, and `low` and `high` of its main metric."""
    predicted: dict[str, Any]
    """metric, value, low, high and samples of the chosen one."""
    error_rate: float
    """Of the chosen one's answers."""


class Rows(NamedTuple):
    """Samples that heads are compared on."""

    numbers: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: list[str]
    classes: int

    @classmethod
    def of(cls, cache: Cache, samples: int, seed: int) -> "Rows":
        """Draw at most `samples` rows of train and validation."""
        index = cache.index_table
        known = np.flatnonzero(index["split"] != "test")
        numbers = np.sort(np.random.default_rng(seed).permutation(known)[:samples])
        labels = targets.stack(index["label"])[numbers]
        return cls(numbers, labels, groups_of(index.iloc[numbers]), len(cache.meta["labels"]))


def compare_readouts(
    cache: Cache,
    costs: Sequence[Cost],
    length: int,
    head: HeadSettings,
    limits: tuple[int, float, int, int],
) -> Comparison:
    """Compare heads on every stage, then on `length` stages that end at the best one or above it.

    Args:
        cache: Of features.
        costs: Of the backbone's first 1, 2, ... stages.
        length: How many stages are read together.
        head: How a head is fitted.
        limits: Samples at most, difference of cost that counts as none, bootstrap resamples, seed.
    """
    samples, same_cost, draws, seed = limits
    rows, stages = Rows.of(cache, samples, seed), len(costs)
    alone = [Readout(stage, stage + 1, True) for stage in range(stages)]
    found = {
        one: unseen_answers(cache, one, rows, head, seed) for one in count(alone, "stages", stages, "head")
    }
    best = max(alone, key=lambda one: (value_of(found[one]), -float(found[one].nll.mean())))
    together = [Readout(max(0, keep - length), keep, True) for keep in range(best.keep, stages + 1)]
    for one in together:
        if one not in found:
            found[one] = unseen_answers(cache, one, rows, head, seed)
    names = {one.named(): one for one in found}
    predictions = {name: found[one] for name, one in names.items()}
    table = compare(predictions, {name: costs[one.keep - 1] for name, one in names.items()}, draws, seed)
    chosen = cheapest_of_equals(table, same_cost)
    spans = {name: span(one, draws, seed) for name, one in predictions.items()}
    ranked = sorted(table, key=lambda row: (-row.value, row.log_loss))
    own = predictions[chosen.model]
    predicted = {"metric": own.main, **spans[chosen.model], "samples": len(own.labels)}
    return Comparison(
        names[chosen.model],
        [{**asdict(row), **spans[row.model], **names[row.model].to_dict()} for row in ranked],
        predicted,
        float((~own.correct).mean()),
    )


def unseen_answers(cache: Cache, readout: Readout, rows: Rows, head: HeadSettings, seed: int) -> Predictions:
    """Return the answers of heads on a readout to samples that they have not seen, by cross-validation."""
    x = read_vectors(cache, readout)[rows.numbers]
    weights = weights_of_classes(head.class_weights, torch.from_numpy(rows.labels))
    quick = head.model_copy(update={"scaling": "standardised" if head.scaling == "auto" else head.scaling})
    logits = choose_head(x, rows.labels, rows.classes, rows.groups, quick, seed, weights).unseen
    logits = np.nan_to_num(logits)  # where one group is all there is, nothing is unseen: no answer
    chosen = fit_temperature_and_thresholds(logits, rows.labels)
    numbers = pd.factorize(np.asarray(rows.groups, dtype=object))[0].astype(np.int64)
    return predictions_of(logits, rows.labels, chosen, numbers)


def value_of(predictions: Predictions) -> float:
    """Return the main metric of all samples."""
    return predictions.metrics[predictions.main](predictions, np.arange(len(predictions.labels)))


def span(predictions: Predictions, draws: int, seed: int) -> dict[str, float]:
    """Return the main metric with its 95 % interval."""
    found = metric_intervals(predictions, draws, seed, names=(predictions.main,))[predictions.main]
    return {key: round(float(value), 6) for key, value in found.items()}


def freeze_boundary(unfreeze: int | str, readout: Readout, stages: int) -> int:
    """Return how many stages are frozen when the last `unfreeze` of those that are kept, or all, train.

    Those that the head reads can be had from the boundary, so it is never above the first of them.

    Raises:
        BackboneError: More are asked for than the backbone's `stages`.
    """
    if unfreeze == "all":
        return 0
    if not isinstance(unfreeze, int) or unfreeze > stages:
        raise BackboneError(f"fine_tune.unfreeze: found {unfreeze}, expected 0 to {stages}, or all")
    if unfreeze == 0:
        return readout.keep
    return max(0, min(readout.keep - unfreeze, readout.first + 1))


def skip_reason(strategy: str, error_rate: float | None, validation: int, least_errors: float) -> str | None:
    """Return why nothing but the head is trained, or None where stages are.

    With an error rate e on n validation samples even a model without a mistake is ahead by e, and the
    standard error of that is sqrt(e / n): not more than one of them where e * n <= 1, so no training could be
    shown to be better. Where nothing was measured, the rate is None.
    """
    if strategy == "features":
        return "choose_strategy.strategy is features"
    if strategy != "auto" or error_rate is None:
        return None
    if (expected := error_rate * validation) <= least_errors:
        return (
            f"the pretrained features leave {expected:.1f} mistakes to be expected in {validation} "
            "validation samples: no training could be shown to be better (choose_strategy.least_errors)"
        )
    return None
