"""Weights between those before a training and those after it (Wortsman et al. 2022, "WiSE-FT")."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from steps.core.features.batches import Batches
from steps.core.tasks.thresholds import fit_temperature_and_thresholds, predictions_of
from steps.core.training.loop import Epoch, Trained, measure


def interpolate(
    trained: Trained, before: Mapping[str, Tensor], fractions: Sequence[float], batches: Batches, monitor: str
) -> tuple[Trained, float]:
    """Give a network the best of its weights (1 - f) * before + f * after; return it and its f.

    Every f is tried on validation, 1 among them whether it is listed or not; of equals the largest stays.
    Losses are compared after calibration: label smoothing makes a training less sure than what it began with,
    which the temperature undoes and a comparison of plain losses would punish.

    Args:
        trained: What the training has come to; its network is changed in place.
        before: `Network.state()` from before the training.
        fractions: Values of f in [0, 1].
        batches: At the boundary from which the network was trained.
        monitor: What is best, as of `Recipe.monitor`.
    """
    network, after = trained.network, trained.network.state()
    labels = batches.labels[batches.rows("val")].numpy()

    def badness(epoch: Epoch) -> tuple[float, ...]:
        if monitor != "loss":
            return epoch.badness(monitor)
        logits = epoch.val_logits.double().numpy()
        fitted = predictions_of(logits, labels, fit_temperature_and_thresholds(logits, labels))
        return (fitted.metrics["nll"](fitted, np.arange(len(labels))),)

    best, chosen = trained.best, 1.0
    for fraction in sorted({*fractions} - {1.0}, reverse=True):
        network.load_state(between(before, after, fraction))
        found = replace(trained.best, **measure(network, batches))
        if badness(found) < badness(best):
            best, chosen = found, fraction
    network.load_state(between(before, after, chosen))
    return replace(trained, best=best), chosen


def between(before: Mapping[str, Tensor], after: Mapping[str, Tensor], fraction: float) -> dict[str, Tensor]:
    """Mix two states; counts are taken from the later one."""
    return {
        name: before[name].lerp(x, fraction) if x.is_floating_point() and fraction < 1 else x
        for name, x in after.items()
    }
