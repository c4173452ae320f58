"""What a network's logits are held against: class numbers, or indicators of labels that may occur together.

The form of the targets says which: (n,) are class numbers, each sample is of one class; (n, classes) are
indicators of 0 and 1, each label is a question of its own. Loss, probability and right answer follow.
"""

from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


class Targets(Protocol):
    """What logits (n, classes) mean."""

    def loss(self, logits: Tensor, y: Tensor, smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
        """Return the loss in nats, of the mean sample, or with `none` of each (n,)."""

    def divergence(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return KL(taught || own) of the mean sample, in nats."""

    def correct(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return what share of each sample's answers is right (n,)."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities (n, classes)."""


class SingleLabelTargets:
    """Each sample is of exactly one class: softmax, cross-entropy, the largest logit."""

    def loss(self, logits: Tensor, y: Tensor, smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
        """See `Targets`."""
        return F.cross_entropy(logits, y, label_smoothing=smoothing, reduction=reduction)

    def divergence(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """See `Targets`."""
        own, other = F.log_softmax(logits, dim=1), F.log_softmax(teacher_logits, dim=1)
        return F.kl_div(own, other, reduction="batchmean", log_target=True)

    def correct(self, logits: Tensor, y: Tensor) -> Tensor:
        """See `Targets`."""
        return (logits.argmax(dim=1) == y).float()

    def probabilities(self, logits: Tensor) -> Tensor:
        """See `Targets`."""
        return torch.softmax(logits, dim=1)


class LabelSetTargets:
    """Each label is there or not: sigmoid, binary cross-entropy, even odds; means over the labels."""

    def loss(self, logits: Tensor, y: Tensor, smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
        """See `Targets`; smoothing moves both answers towards one half."""
        wanted = y.to(logits.dtype) * (1 - smoothing) + smoothing / 2
        losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(dim=1)
        return losses.mean() if reduction == "mean" else losses

    def divergence(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """See `Targets`: between Bernoulli distributions, label by label."""
        wanted = torch.sigmoid(teacher_logits)
        crossed = F.binary_cross_entropy_with_logits(logits, wanted)
        return crossed - F.binary_cross_entropy_with_logits(teacher_logits, wanted)

    def correct(self, logits: Tensor, y: Tensor) -> Tensor:
        """See `Targets`."""
        return ((logits > 0) == (y > 0)).float().mean(dim=1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """See `Targets`."""
        return torch.sigmoid(logits)


SINGLE_LABEL_TARGETS, LABEL_SET_TARGETS = SingleLabelTargets(), LabelSetTargets()


def kind_for(y: Tensor | NDArray[Any]) -> Targets:
    """Return what targets of this form mean."""
    return SINGLE_LABEL_TARGETS if y.ndim == 1 else LABEL_SET_TARGETS


def kind_for_model(meta: dict[str, Any]) -> Targets:
    """Return what a trained model's logits mean; one with thresholds answers with sets of labels."""
    return LABEL_SET_TARGETS if "thresholds" in meta else SINGLE_LABEL_TARGETS


def stack(column: "pd.Series[Any]") -> NDArray[np.int64]:
    """Return the `label` column of a cache's index as targets, in the form in which it was written."""
    return np.array(column.to_list(), dtype=np.int64)


def logit_thresholds(meta: dict[str, Any]) -> Tensor:
    """Return what to take from a model's logits for 0 to be where its answer turns (classes,)."""
    thresholds = torch.tensor(meta.get("thresholds", [0.5] * len(meta["labels"])), dtype=torch.float32)
    return float(meta["temperature"]) * torch.logit(thresholds)
