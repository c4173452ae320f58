"""A student under a budget: chosen among candidates, taught by the teacher, beside two controls.

The choice is made before any student is trained. Every candidate is timed on this machine as the file that
production would run, and gets a linear head on its features as they are; of those that fit the budget, the
one whose head does best on validation is trained. The head needs one pass over the data, not a training; a
deeper cut usually wins, so the budget decides how small the student is. What the clock says decides only
through the limit on latency; see `steps.core.export.latency` for what keeps that from changing. Where one
candidate alone is listed, latency_runs only decide whether the run goes on.

The controls are the same network with the same start: `hard_labels`, trained by the same recipe without a
teacher, and `frozen`, whose body stays as it is, under the head by which it was chosen.
"""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steps.core.backbones.network import Network
from steps.core.backbones.processes import assert_equal_everywhere, on_device
from steps.core.data.rows import open_source
from steps.core.distillation.candidates import Candidate, build_candidates, parameter_count
from steps.core.distillation.settings import CutCandidate, NamedCandidate, StudentRecipe
from steps.core.export.latency import Figures, benchmark
from steps.core.features.batches import Batches, Cache, open_batches
from steps.core.features.settings import HeadSettings
from steps.core.modalities.registry import modality_of, preprocessing_of
from steps.core.system.errors import BudgetError
from steps.core.training.calibration import calibrate
from steps.core.training.head import train_head
from steps.core.training.loop import Epoch, Trained, train
from steps.core.training.objectives import Distil, class_weights
from steps.core.training.parameter_groups import parameter_groups

NEAR_LIMIT = 0.1  # of the limit on latency: another measurement might fall on its other side
TEACHER = "teacher"
EpochCallback = Callable[[Epoch], None]

log = logging.getLogger("headstart")


@dataclass(frozen=True)
class TrainedModel:
    """A trained network, what was chosen on validation for it to answer, and how it fared there."""

    trained: Trained
    chosen: dict[str, Any]
    metrics: dict[str, float]


@dataclass(frozen=True)
class DistillationResult:
    """The student, its controls by name, and what it was chosen from."""

    choice: Candidate
    student: TrainedModel
    controls: dict[str, TrainedModel]
    candidates: list[dict[str, Any]]
    """Each candidate: name, parameters, val_accuracy and val_loss of its features as they are."""
    figures: Figures
    """Latency and size of the teacher and every candidate on this machine."""
    parameters_of_teacher: float
    """The student's parameters as a fraction of the teacher's."""


def train_students(
    cache: Cache,
    teacher: Network,
    listed: Sequence[CutCandidate | NamedCandidate],
    cfg: StudentRecipe,
    head: HeadSettings,
    seed: int,
    scratch: Path,
    file: Path,
    on_epoch: EpochCallback,
) -> DistillationResult:
    """Choose the student and train it and its controls from the same start; `file` keeps the way.

    Where a cut lies above the freeze boundary, all read the cached h; else they start from the samples.

    Raises:
        BudgetError: No candidate fits.
    """
    on_device(teacher).freeze(len(teacher.stages))
    candidates = build_candidates(listed, teacher, cache.meta, scratch)
    figures = benchmark_candidates(candidates, teacher, cache, cfg.latency_runs, scratch)
    fitting = within_budget(candidates, figures, cfg)
    heads = [
        fit_own_head(one, open_batches(cache, one.start, cfg.batch_size, seed, scratch), head)
        for one in candidates
    ]
    number = min(fitting, key=lambda n: heads[n].metrics["val_loss"])
    choice = candidates[number]
    log.info("student chosen: %s", choice.name)
    assert_equal_everywhere(
        "the choice of the student", choice.name, "set distill.max_latency_ms to null, or leave one candidate"
    )
    warn_of_recomputing(choice, cache.meta["boundary"])
    batches = open_batches(cache, choice.start, cfg.batch_size, seed, scratch)
    files = [file.with_name(f"{file.stem}-{number}{part}{file.suffix}") for part in ("", "-control")]
    student = train_student(choice.network, teacher, cfg.alpha, cfg, batches, on_epoch, files[0])
    hard = train_student(choice.network, teacher, 0.0, cfg, batches, lambda epoch: None, files[1])
    rows = [
        {"name": one.name, "parameters": one.parameters, **model.metrics}
        for one, model in zip(candidates, heads, strict=True)
    ]
    controls = {"hard_labels": hard, "frozen": heads[number]}
    return DistillationResult(
        choice, student, controls, rows, figures, choice.parameters / parameter_count(teacher)
    )


def benchmark_candidates(
    candidates: Sequence[Candidate], teacher: Network, cache: Cache, latency_runs: int, scratch: Path
) -> Figures:
    """Benchmark the teacher and the candidates on one validation sample."""
    rows = cache.index_table[cache.index_table["split"] == "val"]
    path = str(rows.sort_values("sha256")["path"].iloc[0])
    sample = open_source(cache.meta["root"], scratch, rows).read(path)
    preprocessing = preprocessing_of(cache.meta)
    networks = {TEACHER: teacher, **{one.name: one.network for one in candidates}}
    return benchmark(networks, modality_of(cache.meta), preprocessing, sample, latency_runs, scratch)


def within_budget(
    candidates: Sequence[Candidate], figures: Mapping[str, Mapping[str, float]], cfg: StudentRecipe
) -> list[int]:
    """Return the numbers of the candidates that are fast and small enough.

    Raises:
        BudgetError: There is none; says what each would cost.
    """
    milliseconds = cfg.max_latency_ms or float("inf")
    fitting, costs = [], []
    for number, one in enumerate(candidates):
        p50, megabytes = (figures[one.name][key] for key in ("latency_p50_ms", "megabytes"))
        costs.append(f"{one.name}: {p50:.2f} ms, {megabytes:.2f} MB")
        if abs(p50 - milliseconds) < NEAR_LIMIT * milliseconds:
            warning = "%s takes %.2f ms, close to distill.max_latency_ms %g: another machine may differ"
            log.warning(warning, one.name, p50, milliseconds)
        if p50 <= milliseconds and megabytes <= (cfg.max_megabytes or float("inf")):
            fitting.append(number)
    if not fitting:
        limits = {"max_latency_ms": cfg.max_latency_ms, "max_megabytes": cfg.max_megabytes}
        asked = " and ".join(f"distill.{key} {value:g}" for key, value in limits.items() if value)
        raise BudgetError(
            f"no candidate for the student fits {asked} on this machine; found "
            f"{'; '.join(costs)}: raise the limit, or add a smaller one to distill.candidates (the phases "
            "before this one need not run again)"
        )
    return fitting


def fit_own_head(candidate: Candidate, batches: Batches, settings: HeadSettings) -> TrainedModel:
    """Fit a head to its optimum on a candidate's features as they are: one pass over the data."""
    network = copy.deepcopy(candidate.network)
    network.freeze(len(network.stages))
    vectors = embed_splits(network, batches).double().numpy()
    trained, _ = train_head(network, vectors, batches, settings, batches.seed)
    return TrainedModel(trained, *calibrate(trained, batches))


@torch.no_grad()
def embed_splits(network: Network, batches: Batches) -> Tensor:
    """Return the pooled vectors (rows of the index, features) of train and val, deterministic views."""
    z = torch.zeros(len(batches.index), network.head.in_features)
    start, device = batches.source.start, network.head.weight.device
    for split in ("train", "val"):
        parts = [network.embed(batch.x.to(device), start).cpu() for batch in batches.deterministic(split)]
        z[batches.rows(split)] = torch.cat(parts)
    return z


def train_student(
    student: Network,
    teacher: Network,
    alpha: float,
    cfg: StudentRecipe,
    batches: Batches,
    on_epoch: EpochCallback,
    file: Path | None = None,
) -> TrainedModel:
    """Train a copy of the student; `alpha` is the weight of the distillation loss."""
    network = copy.deepcopy(student)
    start = batches.source.start
    network.freeze(start)
    groups = parameter_groups(network, start, cfg.head_lr, cfg.ratio, cfg.weight_decay)
    task = Distil(teacher, cfg.temperature, alpha, cfg, class_weights(cfg, batches))
    trained = train(network, start, task, batches, cfg, groups, on_epoch, file)
    return TrainedModel(trained, *calibrate(trained, batches))


def warn_of_recomputing(choice: Candidate, boundary: int) -> None:
    """Say what it costs that a student does not read the cache."""
    if boundary and not choice.start:
        log.warning(
            "the student, %s, does not reach above the freeze boundary %d, so every sample is decoded again: "
            "a cut after %d stages would read the cache, which is many times faster",
            choice.name, boundary, boundary + 1,
        )  # fmt: skip
