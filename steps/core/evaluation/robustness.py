"""What is left of the accuracy when samples get worse, in the ways that the modality names.

After Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steps.core.backbones.network import Network
from steps.core.features.extraction import batched
from steps.core.modalities.contract import Corruption
from steps.core.modalities.parts import Preprocessing
from steps.core.tasks import targets

MICRO_BATCH = 16


@torch.inference_mode()
def robustness(
    network: Network,
    look: Preprocessing,
    corruptions: Mapping[str, tuple[Corruption, tuple[float, float, float]]],
    views: Sequence[Tensor],
    labels: Sequence[Any],
    seed: int,
    cut: Tensor | float = 0.0,
) -> list[dict[str, Any]]:
    """Return per corruption and strength (1 to 3) the accuracy on `views`, and what it lost.

    Of label sets it is the share of the right yes and no.

    Args:
        network: The model.
        look: How views become its input.
        corruptions: What is done to the views, by name, and three strengths of it.
        views: Deterministic ones.
        labels: Their class numbers, or indicators.
        seed: Of the noise.
        cut: What is taken from the logits, for a label's answer to turn at 0.
    """
    clean = right(network, look, views, labels, cut)
    rows = []
    for name, (change, strengths) in corruptions.items():
        for step, strength in enumerate(strengths, start=1):
            generator = torch.Generator().manual_seed(seed)
            changed = [change(view, strength, generator) for view in views]
            found = right(network, look, changed, labels, cut)
            rows.append({"corruption": name, "strength": step, "accuracy": found, "drop": clean - found})
    return rows


def right(
    network: Network, look: Preprocessing, views: Sequence[Tensor], labels: Sequence[Any], cut: Tensor | float
) -> float:
    """Return the share of right answers."""
    logits = [network(look.batch(part, network.device)).cpu() for part in batched(views, MICRO_BATCH)]
    y = torch.tensor(labels)
    return float(targets.of(y).right(torch.cat(logits) - cut, y).mean())
