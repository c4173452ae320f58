"""Weights between those before a training and those after it (Wortsman et al. 2022, "WiSE-FT")."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from steps.core.features.batches import Batches
from steps.core.training.loop import Trained, measure


def interpolate(
    trained: Trained, before: Mapping[str, Tensor], fractions: Sequence[float], batches: Batches, monitor: str
) -> tuple[Trained, float]:
    """Give a network the best of its weights (1 - f) * before + f * after; return it and its f.

    Every f is tried on validation, 1 among them whether it is listed or not; of equals the largest stays.

    Args:
        trained: What the training has come to; its network is changed in place.
        before: `Network.state()` from before the training.
        fractions: Values of f in [0, 1].
        batches: At the boundary from which the network was trained.
        monitor: What is best, as of `Recipe.monitor`.
    """
    network, after = trained.network, trained.network.state()
    best, chosen = trained.best, 1.0
    for fraction in sorted({*fractions} - {1.0}, reverse=True):
        network.load_state(between(before, after, fraction))
        found = replace(trained.best, **measure(network, batches))
        if found.badness(monitor) < best.badness(monitor):
            best, chosen = found, fraction
    network.load_state(between(before, after, chosen))
    return replace(trained, best=best), chosen


def between(before: Mapping[str, Tensor], after: Mapping[str, Tensor], fraction: float) -> dict[str, Tensor]:
    """Mix two states; counts are taken from the later one."""
    return {
        name: before[name].lerp(x, fraction) if x.is_floating_point() and fraction < 1 else x
        for name, x in after.items()
    }
