"""The training loop: one for head warm-up, fine-tuning, search trials and distillation."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steps.core.backbones.network import Network, assert_frozen, frozen_digest
from steps.core.backbones.processes import (
    assert_equal_everywhere,
    distributed_state,
    gather_interleaved,
    is_main_process,
    on_device,
    process_count,
    rank,
)
from steps.core.backbones.settings import freezes_statistics
from steps.core.features.batches import Batches
from steps.core.system.errors import Diverged
from steps.core.system.progress import count
from steps.core.tasks import targets
from steps.core.tasks.thresholds import DEFAULT_THRESHOLD, predictions_of
from steps.core.training.checkpoint import Checkpoint, Snapshot, take_snapshot, trainable_state
from steps.core.training.objectives import Objective
from steps.core.training.recipe import Recipe
from steps.core.training.stepper import Stepper


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to; the validation figures are of the very weights held after it."""

    epoch: int
    train_loss: float
    """Mean of the task's loss over the epoch's steps, in nats."""
    val_loss: float
    """Mean cross-entropy on validation, in nats, whatever the task."""
    val_accuracy: float
    """Share of right answers; of label sets, of the right yes and no at even odds."""
    val_macro_f1: float
    """Mean F1 of the classes; of label sets, at even odds."""
    head_lr: float
    val_logits: Tensor = field(repr=False, compare=False)
    """Shape (validation samples, classes), in the order of the index."""

    def numbers(self) -> dict[str, Any]:
        """Return the figures as plain json types."""
        return {name: value for name, value in vars(self).items() if name != "val_logits"}

    def badness(self, monitor: str) -> tuple[float, ...]:
        """Return what is least for the best epoch, by a recipe's `monitor`."""
        if monitor == "loss":
            return (self.val_loss,)
        return (-float(getattr(self, f"val_{monitor}")), self.val_loss)


@dataclass(frozen=True)
class Trained:
    """The best epoch's weights and the whole curve."""

    network: Network
    history: list[Epoch]
    best: Epoch

    def records(self) -> list[dict[str, Any]]:
        """Return the curve as plain json types."""
        return [epoch.numbers() for epoch in self.history]


def fit(
    network: Network,
    task: Objective,
    batches: Batches,
    recipe: Recipe,
    groups: list[dict[str, Any]],
    resume_from: tuple[int, Snapshot] | None = None,
    on_snapshot: Callable[[Snapshot], None] | None = None,
) -> Iterator[Epoch]:
    """Train in place, one epoch per item.

    Args:
        network: Frozen below the boundary at which the batches enter it.
        task: The loss.
        batches: What is seen.
        recipe: Epochs, schedule and the like.
        groups: Of the optimiser.
        resume_from: Epochs that are done, and what they left; None starts anew.
        on_snapshot: Told what an epoch has left, before the epoch is yielded.

    Raises:
        Diverged: A loss is not finite, or has exploded; says which rate to lower.
    """
    distributed_state()
    fix_statistics(network, batches, recipe)
    stepper = Stepper(network, task, batches, recipe, groups)
    done = stepper.resume(*resume_from) if resume_from is not None else 0
    for epoch in range(done + 1, recipe.epochs + 1):
        train_loss, rate = stepper.epoch(epoch)
        found = measure(network, batches)
        stepper.check_divergence(found["val_loss"], stepper.limit, epoch, batches.steps())
        if on_snapshot is not None:
            on_snapshot(take_snapshot(network, stepper.optimizer))
        yield Epoch(epoch, train_loss, head_lr=rate, **found)


def measure(network: Network, batches: Batches) -> dict[str, Any]:
    """Return the validation figures of an `Epoch`, by name, for the weights that the network has."""
    return validation_figures(*predict(network, batches, "val"))


def validation_figures(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return the validation figures of an `Epoch`, by name, for logits (n, classes)."""
    kind = targets.kind_for(labels)
    return {
        "val_loss": float(kind.loss(logits, labels)),
        "val_accuracy": float(kind.correct(logits, labels).mean()),
        "val_macro_f1": macro_f1(logits, labels),
        "val_logits": logits,
    }


def macro_f1(logits: Tensor, labels: Tensor) -> float:
    """Return the mean F1 of the classes for logits (n, classes), of label sets at even odds."""
    even = {"temperature": 1.0, "thresholds": [DEFAULT_THRESHOLD] * logits.shape[1]}
    found = predictions_of(logits.double().numpy(), labels.numpy(), even)
    return found.metrics["macro_f1"](found, np.arange(len(labels)))


def fix_statistics(network: Network, batches: Batches, recipe: Recipe) -> bool:
    """Let BatchNorms of stages that train keep their statistics where the recipe says so; say whether."""
    fixed = freezes_statistics(recipe.batch_norm, len(batches.rows("train")))
    network.fix_statistics(fixed)
    return fixed


def train(
    network: Network,
    boundary: int,
    task: Objective,
    batches: Batches,
    recipe: Recipe,
    groups: list[dict[str, Any]],
    on_epoch: Callable[[Epoch], None],
    file: Path | None = None,
) -> Trained:
    """Run `fit`, stop after `patience` epochs that are not better on validation, keep the best.

    The epochs are the recipe's, or as many as `min_steps` asks for.

    With a `file`, whose name stands for all that goes in, a training that was killed goes on from there.

    Raises:
        FrozenWeightsChanged: Something below the boundary has changed, or statistics that were fixed.
        Diverged: See `fit`.
    """
    fixed = fix_statistics(network, batches, recipe)
    recipe = recipe.model_copy(update={"epochs": recipe.planned_epochs(batches.steps())})
    before = frozen_digest(network, boundary, fixed)
    checkpoint = Checkpoint(file) if file else None
    resume_from, weights, history = resume(checkpoint)
    assert_equal_everywhere(
        "epochs that are done", str(len(history)), "HEADSTART_SCRATCH must be a folder that all see"
    )
    for known in history:
        on_epoch(known)
    best = min(history, key=lambda epoch: epoch.badness(recipe.monitor), default=None)
    left: list[Snapshot] = []
    writes = is_main_process() and checkpoint
    fitted = fit(network, task, batches, recipe, groups, resume_from, left.append if writes else None)
    epochs = count(fitted, "training", recipe.epochs, "epoch", len(history), not is_main_process())
    while best is None or history[-1].epoch - best.epoch < recipe.patience:
        try:
            epoch = next(epochs, None)
        except Diverged as error:
            raise with_best_checkpoint(error, checkpoint, history, recipe.monitor) from None
        if epoch is None:
            break
        history.append(epoch)
        on_epoch(epoch)
        if best is None or epoch.badness(recipe.monitor) < best.badness(recipe.monitor):
            best, weights = epoch, copy.deepcopy(trainable_state(network))
        if writes:
            writes.save(left.pop(), weights, [row.numbers() for row in history])
    if best is None:
        raise Diverged("no epoch was trained")
    assert_frozen(network, boundary, before, fixed)
    network.load_state_dict(weights, strict=False)
    assert_equal_everywhere(
        "the weights", frozen_digest(network, len(network.stages)), "run them on machines of one kind"
    )
    network.eval()
    if not len(best.val_logits):  # of an epoch from before a kill, whose weights alone were kept
        best = replace(best, val_logits=predict(network, batches, "val")[0])
    return Trained(network, history, best)


def with_best_checkpoint(
    error: Diverged, checkpoint: Checkpoint | None, history: list[Epoch], monitor: str
) -> Diverged:
    """Say where the best weights from before a training diverged are."""
    if checkpoint is None or not history:
        return error
    best = min(history, key=lambda epoch: epoch.badness(monitor))
    kept = f"the weights of epoch {best.epoch}, validation loss {best.val_loss:.3g}, are kept in"
    return Diverged(f"{error}; {kept} {checkpoint.path}")


def resume(
    checkpoint: Checkpoint | None,
) -> tuple[tuple[int, Snapshot] | None, dict[str, Tensor], list[Epoch]]:
    """Return where to go on, the best weights so far, and the epochs that are done."""
    if checkpoint is None or (found := checkpoint.load()) is None:
        return None, {}, []
    snapshot, weights, rows = found
    history = [Epoch(**row, val_logits=torch.empty(0)) for row in rows]
    return (len(history), snapshot), weights, history


@torch.inference_mode()
def predict(network: Network, batches: Batches, split: str) -> tuple[Tensor, Tensor]:
    """Return logits (n, classes) and targets of a split, through the deterministic view."""
    on_device(network)
    parts = [
        network(batch.x.to(network.device), batches.source.start).float().cpu()
        for batch in batches.deterministic(split, rank(), process_count())
    ]
    labels = batches.labels[batches.rows(split)]
    return gather_interleaved(parts, batches.batch_size, len(labels), network.head.out_features), labels
