"""What is minimised. A task turns a batch into a loss; the loop knows no more than that."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from steps.core.backbones.network import Network
from steps.core.backbones.processes import gather_batch, local_slice
from steps.core.features.batches import Batch, Batches
from steps.core.system.errors import BackboneError
from steps.core.tasks import targets
from steps.core.training.recipe import Recipe

MAX_RATIO = (
    3.0  # of the largest class to the smallest, up to which weights change nothing (docs/experiments.md)
)


class Objective(Protocol):
    """Turns a batch that enters the network at boundary `start` into a mean loss in nats."""

    def __call__(self, network: Network, batch: Batch, start: int, generator: torch.Generator) -> Tensor:
        """Return the loss, a scalar with gradient."""


@dataclass(frozen=True)
class Classify:
    """Cross-entropy with label smoothing, and MixUp or CutMix at the boundary if wanted."""

    recipe: Recipe
    weights: Tensor | None = None
    """Of the classes (classes,), see `class_weights`; None weighs all samples alike."""

    def __call__(self, network: Network, batch: Batch, start: int, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        x, share, others = mixed_input(network, batch, start, self.recipe, generator)
        return mixed_loss(
            network(x, start), batch.y, share, others, self.recipe.label_smoothing, self.weights
        )


@dataclass(frozen=True)
class Distil:
    """Hinton et al. 2015: alpha * T^2 * KL(teacher || student) + (1 - alpha) * cross-entropy.

    The teacher sees the very same views, mixed as the student's are (Beyer et al. 2021, "A good teacher is
    patient": what is matched is a function, so its answer to the mixture is asked for). Label smoothing is
    of the labels alone.
    """

    teacher: Network
    temperature: float
    alpha: float
    recipe: Recipe
    weights: Tensor | None = None
    """Of the classes in the cross-entropy; see `Classify`."""

    def __call__(self, network: Network, batch: Batch, start: int, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        x, share, others = mixed_input(network, batch, start, self.recipe, generator)
        logits = network(x, start)
        hard = mixed_loss(logits, batch.y, share, others, self.recipe.label_smoothing, self.weights)
        if self.alpha == 0:
            return hard
        with torch.no_grad():
            teacher_logits = self.teacher(x, start)
        soft = targets.kind_for(batch.y).divergence(
            logits / self.temperature, teacher_logits / self.temperature
        )
        return self.alpha * self.temperature**2 * soft + (1 - self.alpha) * hard


def mixed_loss(
    logits: Tensor, y: Tensor, share: float, others: Tensor, smoothing: float, weights: Tensor | None = None
) -> Tensor:
    """Return the loss in nats of the labels, and of the partners' where `share` leaves them a part."""
    loss = weighted_loss(logits, y, smoothing, weights)
    if share == 1:
        return loss
    return share * loss + (1 - share) * weighted_loss(logits, others, smoothing, weights)


def weighted_loss(logits: Tensor, y: Tensor, smoothing: float, weights: Tensor | None) -> Tensor:
    """Return the mean over the samples of each one's loss times the weight of its class.

    The weights are not normalised within the batch: a batch of rare classes counts for more than one of
    common ones, and the parts of a batch that several processes have add up to the whole.
    """
    kind = targets.kind_for(y)
    if weights is None:
        return kind.loss(logits, y, smoothing)
    losses = kind.loss(logits, y, smoothing, "none")
    return (losses * weights.to(losses.device)[y]).mean()


def class_weights(recipe: Recipe, batches: Batches) -> Tensor | None:
    """Return the weights of the classes of train; see `weights_of_classes`."""
    return weights_of_classes(recipe.class_weights, batches.labels[batches.rows("train")])


def weights_of_classes(kind: str, labels: Tensor) -> Tensor | None:
    """Return the weights of the classes (classes,) by training labels; None: all alike.

    `balanced`: samples / (classes * samples of the class), so that each class has the same weight in all
    and the mean over the samples is 1 (scikit-learn's). `auto`: balanced where the largest class has more
    than MAX_RATIO times the samples of the smallest. Label sets are never weighted: their thresholds are
    chosen one by one.
    """
    if kind == "none" or labels.ndim > 1:
        return None
    counts = torch.bincount(labels)
    present = counts[counts > 0]
    if kind == "auto" and present.max() <= MAX_RATIO * present.min():
        return None
    return len(labels) / (len(present) * counts.clamp(min=1))


def mixed_input(
    network: Network, batch: Batch, start: int, recipe: Recipe, generator: torch.Generator
) -> tuple[Tensor, float, Tensor]:
    """Mix a batch that enters at boundary `start`; see `mix_local_part`."""
    # CutMix cuts rows and columns; some networks have the channels of their maps at the end.
    turned = network.layout == "channels_last" and start > 0 and batch.x.ndim == 4
    x = batch.x.permute(0, 3, 1, 2) if turned else batch.x
    x, share, others = mix_local_part(x, batch, recipe, generator)
    return (x.permute(0, 2, 3, 1) if turned else x), share, others


def mix_local_part(
    x: Tensor, batch: Batch, recipe: Recipe, generator: torch.Generator
) -> tuple[Tensor, float, Tensor]:
    """Mix this process's part of a batch with partners from all of it; return it, its share, their y."""
    if not recipe.mixup and not recipe.cutmix:
        return x, 1.0, batch.y
    mine = local_slice(batch.size)
    x, share, partner = mix(gather_batch(x, batch.size), recipe, generator)
    return x[mine], share, gather_batch(batch.y, batch.size)[partner[mine]]


def mix(x: Tensor, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor, float, Tensor]:
    """Mix a batch with a permutation of itself; return it, the share of the first, the partners.

    MixUp: Zhang et al. 2017; at a hidden boundary Verma et al. 2018, "Manifold Mixup".
    CutMix: Yun et al. 2019; it needs a map (n, c, h, w). With both on, a coin decides.

    Raises:
        BackboneError: CutMix is on, and what enters has no rows and columns: vectors, or tokens.
    """
    order = torch.arange(len(x))
    if not recipe.mixup and not recipe.cutmix:
        return x, 1.0, order
    if recipe.cutmix and x.ndim != 4:
        read = "tokens" if x.ndim == 3 else "vectors"
        raise BackboneError(
            f"cutmix: found {recipe.cutmix:g}, and the training reads {read} at its first stage, without "
            "rows and columns to cut: set it to 0 there and use mixup, or train from the samples "
            "(fine_tune.unfreeze: all)"
        )
    order = torch.randperm(len(x), generator=generator)
    cut = bool(recipe.cutmix)
    if cut and recipe.mixup:
        cut = torch.rand((), generator=generator).item() < 0.5
    share = draw_beta(recipe.cutmix if cut else recipe.mixup, generator)
    if not cut:
        return share * x + (1 - share) * x[order], share, order
    height, width = x.shape[2:]
    side = (1 - share) ** 0.5
    top, left = (int(torch.randint(n, (), generator=generator)) for n in (height, width))
    bottom, right = min(height, top + round(height * side)), min(width, left + round(width * side))
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[order, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width), order


def draw_beta(alpha: float, generator: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha) with a generator of its own."""
    gammas = torch._standard_gamma(torch.full((2,), alpha), generator=generator)
    return float(gammas[0] / gammas.sum())
