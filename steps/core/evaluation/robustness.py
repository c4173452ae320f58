"""What is left of the accuracy when samples get worse, in the ways that the modality names.

After Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steps.core.backbones.network import Network
from steps.core.features.extraction import in_batches
from steps.core.modalities.contract import Corruption
from steps.core.modalities.parts import Preprocessing
from steps.core.tasks import targets

MICRO_BATCH = 16


@torch.inference_mode()
def robustness(
    network: Network,
    preprocessing: Preprocessing,
    corruptions: Mapping[str, tuple[Corruption, tuple[float, float, float]]],
    views: Sequence[Tensor],
    labels: Sequence[Any],
    seed: int,
    logit_threshold: Tensor | float = 0.0,
) -> list[dict[str, Any]]:
    """Return per corruption and strength (1 to 3) the accuracy on `views`, and what it lost.

    Of label sets it is the share of the right yes and no.

    Args:
        network: The model.
        preprocessing: How views become its input.
        corruptions: What is done to the views, by name, and three strengths of it.
        views: Deterministic ones.
        labels: Their class numbers, or indicators.
        seed: Of the noise.
        logit_threshold: What is taken from the logits, for a label's answer to turn at 0.
    """
    clean = accuracy_on(network, preprocessing, views, labels, logit_threshold)
    rows = []
    for name, (change, strengths) in corruptions.items():
        for step, strength in enumerate(strengths, start=1):
            generator = torch.Generator().manual_seed(seed)
            changed = [change(view, strength, generator) for view in views]
            found = accuracy_on(network, preprocessing, changed, labels, logit_threshold)
            rows.append({"corruption": name, "strength": step, "accuracy": found, "drop": clean - found})
    return rows


def accuracy_on(
    network: Network,
    preprocessing: Preprocessing,
    views: Sequence[Tensor],
    labels: Sequence[Any],
    logit_threshold: Tensor | float,
) -> float:
    """Return the share of right answers."""
    logits = [
        network(preprocessing.batch(part, network.device)).cpu() for part in in_batches(views, MICRO_BATCH)
    ]
    y = torch.tensor(labels)
    return float(targets.kind_for(y).correct(torch.cat(logits) - logit_threshold, y).mean())
