"""The optimiser's side of the training loop: what is needed for a step, and the steps of an epoch."""

import math
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from steps.core.backbones.convolutions import FastConvolutions
from steps.core.backbones.network import Network
from steps.core.backbones.precision import BFloat16Products, uses_bfloat16
from steps.core.backbones.processes import backward, rank
from steps.core.features.batches import Batches
from steps.core.system.errors import Diverged
from steps.core.training.checkpoint import Snapshot, restore_snapshot
from steps.core.training.divergence import DIVERGENCE_FACTOR, explain_divergence, largest_weights
from steps.core.training.objectives import Objective
from steps.core.training.recipe import Recipe


class Stepper:
    """One training's optimiser and schedule, and what its loss may come to."""

    def __init__(
        self,
        network: Network,
        task: Objective,
        batches: Batches,
        recipe: Recipe,
        groups: list[dict[str, Any]],
    ) -> None:
        """Take what `fit` was given."""
        self.network, self.task, self.batches = network, task, batches
        self.recipe, self.groups = recipe, groups
        self.accelerator = Accelerator()
        # "evaluation" leaves the wrapper for several processes away, see `backward`
        self.model = self.accelerator.prepare_model(network, evaluation_mode=True)
        self.half = uses_bfloat16(recipe.precision, self.accelerator.device)
        self.sizes = largest_weights(groups)
        self.limit = DIVERGENCE_FACTOR * math.log(max(2, network.head.out_features))
        # fused: one kernel a tensor instead of a dozen; on a CPU a tenth of a small step
        optimizer = torch.optim.AdamW(groups, fused=True)
        self.schedule = make_schedule(optimizer, recipe, batches.steps())
        self.optimizer = self.accelerator.prepare(optimizer)

    def resume(self, done: int, snapshot: Snapshot) -> int:
        """Go on after `done` epochs with what they left; return their number."""
        restore_snapshot(snapshot, self.network, self.optimizer)
        self.schedule.last_epoch = done * self.batches.steps()
        return done

    def epoch(self, number: int) -> tuple[float, float]:
        """Take the steps of one epoch; return their mean loss, in nats, and the head's rate at the end.

        Raises:
            Diverged: See `fit`.
        """
        seed, start = self.batches.seed, self.batches.source.start
        # of dropout: an epoch depends on its number alone, and no two processes drop the same
        torch.manual_seed(seed * 104_729 + number + 15_485_863 * rank())
        generator = torch.Generator().manual_seed(seed * 7_919 + number)
        self.model.train()
        losses: list[float] = []
        for step, batch in enumerate(self.batches.train(number)):
            batch = batch.to(self.accelerator.device)
            mean = partial(self.task, self.model, batch, start, generator)
            with (
                FastConvolutions(),
                BFloat16Products(self.network.head.weight) if self.half else nullcontext(),
            ):
                loss = backward(self.accelerator, self.optimizer, self.model, len(batch.y), batch.size, mean)
            if step == 0:  # of every epoch, so that one which goes on after a kill judges alike
                most = max(self.limit, DIVERGENCE_FACTOR * loss)
            self.check_divergence(loss, most, number, step)
            if self.recipe.clip_norm is not None:
                self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
            self.optimizer.step()
            self.schedule.step()
            losses.append(loss)
        return sum(losses) / len(losses), float(self.optimizer.param_groups[-1]["lr"])

    def check_divergence(self, loss: float, most: float, epoch: int, step: int) -> None:
        """Raise Diverged where a loss is not finite or more than it may be."""
        if not (math.isfinite(loss) and loss <= most):
            raise Diverged(explain_divergence(loss, epoch, step, self.groups, self.sizes))


def make_schedule(optimizer: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int) -> LRScheduler:
    """Return the schedule, in optimiser steps over the whole of the training."""
    total = max(1, recipe.epochs * steps_per_epoch)
    if recipe.schedule == "one_cycle" and total > 1:
        peaks = [group["lr"] for group in optimizer.param_groups]
        rise = min(max(recipe.warmup, 1 / total), 1 - 1 / total)
        return OneCycleLR(optimizer, peaks, total + 1, pct_start=rise, cycle_momentum=False)
    rise = round(recipe.warmup * total)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        if recipe.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))

    return LambdaLR(optimizer, factor)
