"""A student that is the first stages of its teacher: it needs no weights but the ones at hand."""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from steps.core.batches import Batches, Cache, open_batches
from steps.core.config import StudentRecipe
from steps.core.errors import BackboneError
from steps.core.finish import calibrate
from steps.core.groups import parameter_groups
from steps.core.loop import Epoch, Trained, train
from steps.core.network import Network, pool
from steps.core.processes import placed
from steps.core.tasks import Distil

log = logging.getLogger("headstart")


@dataclass(frozen=True)
class Grown:
    """The student, what was chosen on validation, and how the control fared on validation."""

    student: Trained
    chosen: dict[str, Any]
    metrics: dict[str, float]
    control_metrics: dict[str, float]
    parameters_of_teacher: float
    """The student's parameters as a fraction of the teacher's."""


def grow_students(
    cache: Cache,
    teacher: Network,
    cfg: StudentRecipe,
    seed: int,
    scratch: Path,
    file: Path,
    on_epoch: Callable[[Epoch], None],
) -> Grown:
    """Train the student, and a control with hard labels only, from the same start; `file` keeps the way.

    Where the cut lies above the freeze boundary, both read the cached h; else they see pixels.
    """
    boundary = cache.meta["boundary"]
    start = boundary if boundary < cfg.keep_stages else 0
    if boundary and not start:
        say = (
            "distill.keep_stages %d is not above the freeze boundary %d, so the student starts from pixels: "
        )
        log.warning(
            say + "%d would read the cache, many times faster", cfg.keep_stages, boundary, boundary + 1
        )
    batches = open_batches(cache, start, cfg.batch_size, seed, scratch)
    placed(teacher).freeze(len(teacher.stages))
    student = shorten(teacher, cfg.keep_stages, batches)
    trained = learn(student, teacher, cfg.alpha, cfg, batches, on_epoch, file)
    hard = file.with_name(f"{file.stem}-control{file.suffix}")
    control = learn(student, teacher, 0.0, cfg, batches, lambda epoch: None, hard)
    chosen, metrics = calibrate(trained, batches)
    return Grown(trained, chosen, metrics, calibrate(control, batches)[1], size(student) / size(teacher))


def learn(
    student: Network,
    teacher: Network,
    alpha: float,
    cfg: StudentRecipe,
    batches: Batches,
    on_epoch: Callable[[Epoch], None],
    file: Path | None = None,
) -> Trained:
    """Train a copy of the student; `alpha` is the share of the teacher's word in the loss."""
    network = copy.deepcopy(student)
    start = batches.source.start
    network.freeze(start)
    groups = parameter_groups(network, start, cfg.head_lr, cfg.ratio, cfg.weight_decay)
    task = Distil(teacher, cfg.temperature, alpha)
    return train(network, start, task, batches, cfg, groups, on_epoch, file)


def shorten(teacher: Network, keep: int, batches: Batches) -> Network:
    """Copy the teacher's first `keep` stages under a head of zeros.

    Raises:
        BackboneError: There would be nothing left, or nothing left out.
    """
    if not 1 <= keep < len(teacher.stages):
        raise BackboneError(
            f"distill.keep_stages: found {keep}, expected 1 to {len(teacher.stages) - 1}, "
            "fewer stages than the teacher has"
        )
    stages = copy.deepcopy(teacher.stages[:keep])
    first = next(batches.plain("train"))
    x = first.x[:1].to(teacher.device)
    with torch.inference_mode():
        for stage in stages[batches.source.start :]:
            x = stage(x)
    features = pool(x, teacher.channels_last).shape[1]
    student = Network(stages, features, teacher.head.out_features, teacher.channels_last)
    nn.init.zeros_(student.head.weight)
    nn.init.zeros_(student.head.bias)
    return student.to(teacher.device).to(memory_format=torch.channels_last)


def size(network: Network) -> int:
    """Count parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
