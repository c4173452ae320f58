"""When a training has gone wrong for good, and which rate was to blame."""

import math
from typing import Any

import torch

DIVERGENCE_FACTOR = 20.0  # times the loss of guessing, or of the first step: no training recovers
SMALLEST_WEIGHT = 0.01  # what a weight is taken to have been at least, where its growth is measured


def largest_weights(groups: list[dict[str, Any]]) -> dict[str, float]:
    """Return the largest absolute value among each group's parameters, by the group's name."""
    return {
        group["name"]: float(torch.stack([p.detach().abs().max() for p in group["params"]]).max())
        for group in groups
    }


def explain_divergence(
    loss: float, epoch: int, step: int, groups: list[dict[str, Any]], before: dict[str, float]
) -> str:
    """Name the group that was most likely too fast: the one whose weights have grown most."""
    growth = {
        name: now / max(before[name], SMALLEST_WEIGHT) if math.isfinite(now) else math.inf
        for name, now in largest_weights(groups).items()
    }
    worst = max(growth, key=lambda name: growth[name])
    rate = next(group["lr"] for group in groups if group["name"] == worst)
    what = f"has grown to {loss:.3g}" if math.isfinite(loss) else "is not finite"
    return (
        f"the loss {what} in epoch {epoch}, step {step}; the weights that have grown most, "
        f"{growth[worst]:.3g} times, are in {worst} (learning rate {rate:.1e}): lower its rate, or "
        "set clip_norm"
    )
