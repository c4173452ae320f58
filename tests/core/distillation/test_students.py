import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from steps.core.backbones.network import Network, frozen_digest
from steps.core.backbones.readout import Readout
from steps.core.distillation.candidates import Candidate, cut_teacher, parameter_count
from steps.core.distillation.settings import CutCandidate, NamedCandidate, StudentRecipe
from steps.core.distillation.students import DistillationResult, train_students, within_budget
from steps.core.features.settings import HeadSettings
from steps.core.system.errors import BackboneError, BudgetError
from steps.core.training.loop import Epoch
from tests.core.toys import (
    AUGMENTATION,
    LABELS,
    MICRO_BATCH,
    PREPROCESSING,
    RECIPE,
    VIEWS,
    Pictures,
    build,
    cached,
    image_network,
    same_state,
)

CFG = StudentRecipe(
    **RECIPE.model_copy(update={"epochs": 3, "label_smoothing": 0.0}).model_dump(),
    candidates=[CutCandidate(keep_stages=4)],
    max_latency_ms=None,
    max_megabytes=None,
    latency_runs=2,
    head_lr=3e-3,
    ratio=0.5,
    temperature=2.0,
    alpha=0.9,
)
HEAD = HeadSettings(scaling="auto", inverse_penalties=[1e-3, 1e1], folds=3, samples=100, class_weights="none")


@dataclass(frozen=True)
class Artifact:
    index_table: pd.DataFrame
    shards: dict[str, Path]
    meta: dict[str, Any]


@pytest.fixture(scope="module")
def cache(pictures: Pictures, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    source = cached(pictures, build("test_efficientnet"), 3, tmp_path_factory.mktemp("features"))
    meta = {
        "stages": 6,
        "boundary": 3,
        "views": VIEWS,
        "seed": 0,
        "root": str(pictures.root),
        "modality": "image",
        "preprocessing": PREPROCESSING.to_dict(),
        "augmentation": AUGMENTATION.model_dump(),
        "micro_batch": MICRO_BATCH,
        "oversampling": None,
        "backbone": "test_efficientnet",
        "labels": LABELS,
        "weights_sha256": "0" * 64,
    }
    return Artifact(source.index, source.shards, meta)


def grow(
    cache: Artifact, folder: Path, told: list[Epoch] | None = None, **changes: Any
) -> tuple[DistillationResult, Network]:
    teacher = build("test_efficientnet")
    told = [] if told is None else told
    cfg = CFG.model_copy(update=changes)
    scratch = next(iter(cache.shards.values())).parent / "scratch"  # where benchmarks are kept for all tests
    way = folder / "way.safetensors"
    return train_students(cache, teacher, cfg.listed(3, 6), cfg, HEAD, 0, scratch, way, told.append), teacher


def cuts(*numbers: int) -> list[CutCandidate | NamedCandidate]:
    return [CutCandidate(keep_stages=number) for number in numbers]


def test_a_student_is_the_first_stages_of_its_teacher_under_a_head_of_zeros() -> None:
    teacher = build("test_efficientnet")
    student = cut_teacher(teacher, 4, PREPROCESSING)
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(student.run(x, 0, 4), teacher.run(x, 0, 4))
        assert not student(x).any()
    assert len(student.stages) == 4
    with torch.no_grad():
        next(student.stages[3].parameters()).add_(1)
    assert same_state(teacher.state(), build("test_efficientnet").state())


@pytest.mark.parametrize("keep", [6, 9])
def test_a_student_as_deep_as_its_teacher_is_refused(cache: Artifact, tmp_path: Path, keep: int) -> None:
    with pytest.raises(
        BackboneError, match=rf"distill\.candidates: found keep_stages {keep}, expected 1 to 5"
    ):
        grow(cache, tmp_path, candidates=cuts(keep))


def test_the_student_is_smaller_and_the_teacher_stays_as_it_was(cache: Artifact, tmp_path: Path) -> None:
    result, teacher = grow(cache, tmp_path)
    student = result.student.trained.network
    assert parameter_count(student) < parameter_count(teacher)
    assert result.parameters_of_teacher == parameter_count(student) / parameter_count(teacher)
    assert same_state(teacher.state(), build("test_efficientnet").state())
    assert not any(module.training for module in teacher.stages.modules() if module is not teacher.stages)


def test_what_the_student_reads_from_the_cache_is_not_trained(cache: Artifact, tmp_path: Path) -> None:
    result, teacher = grow(cache, tmp_path)
    assert frozen_digest(result.student.trained.network, 3) == frozen_digest(teacher, 3)
    assert frozen_digest(result.student.trained.network, 4) != frozen_digest(teacher, 4)


def test_without_the_teacher_s_word_student_and_hard_labels_are_the_same(
    cache: Artifact, tmp_path: Path
) -> None:
    result, _ = grow(cache, tmp_path / "one", alpha=0.0)
    hard = result.controls["hard_labels"]
    assert result.student.metrics == hard.metrics
    other, _ = grow(cache, tmp_path / "other", alpha=0.9)
    assert other.student.metrics["val_loss"] != other.controls["hard_labels"].metrics["val_loss"]
    assert other.controls["hard_labels"].metrics == hard.metrics


def test_the_untrained_control_is_the_teacher_s_body_as_it_was_under_a_head_that_learned(
    cache: Artifact, tmp_path: Path
) -> None:
    result, teacher = grow(cache, tmp_path)
    network = result.controls["frozen"].trained.network
    assert frozen_digest(network, 4) == frozen_digest(teacher, 4)
    assert network.head.weight.any()
    (row,) = result.candidates
    assert row["val_loss"] == result.controls["frozen"].metrics["val_loss"] < math.log(3)


def test_growing_twice_gives_the_same_student_and_tells_its_epochs_only(
    cache: Artifact, tmp_path: Path
) -> None:
    told: list[Epoch] = []
    one, other = grow(cache, tmp_path, told)[0], grow(cache, tmp_path)[0]
    assert same_state(one.student.trained.network.state(), other.student.trained.network.state())
    assert told == one.student.trained.history
    assert one.student.chosen["temperature"] == other.student.chosen["temperature"] > 0
    for name, control in one.controls.items():
        again = other.controls[name].trained.network
        assert same_state(control.trained.network.state(), again.state()), name


def test_a_student_can_be_built_again_from_its_number_of_stages(cache: Artifact, tmp_path: Path) -> None:
    student = grow(cache, tmp_path)[0].student.trained.network
    again = image_network("test_efficientnet", 3, 32, readout=Readout.top(4))
    again.load_state(student.state())
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again(x), student(x))


def test_the_candidate_with_the_best_head_is_trained(cache: Artifact, tmp_path: Path) -> None:
    result, _ = grow(cache, tmp_path, candidates=cuts(2, 4, 5), epochs=1)
    losses = {row["name"]: row["val_loss"] for row in result.candidates}
    assert list(losses) == ["first 2 stages", "first 4 stages", "first 5 stages"]
    assert result.choice.name == min(losses, key=lambda name: losses[name])
    assert set(result.figures) == {"teacher", *losses}
    megabytes = {name: row["megabytes"] for name, row in result.figures.items()}
    assert megabytes["first 2 stages"] < megabytes["first 4 stages"] < megabytes["teacher"]


def test_a_cut_is_trained_from_pixels_where_the_cache_ends_above_it(
    cache: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result, teacher = grow(cache, tmp_path, candidates=cuts(2), epochs=1)
    assert (
        "first 2 stages, does not reach above the freeze boundary 3, so every sample is decoded again"
        in caplog.text
    )
    network = result.student.trained.network
    assert len(network.stages) == 2
    assert frozen_digest(network, 1) != frozen_digest(teacher, 1), "it trains from its first stage"


def test_where_nothing_fits_it_is_said_what_each_would_cost_and_nothing_is_trained(
    cache: Artifact, tmp_path: Path
) -> None:
    told: list[Epoch] = []
    with pytest.raises(BudgetError) as caught:
        grow(cache, tmp_path, told, candidates=cuts(2, 4, 5), max_latency_ms=1e-6, max_megabytes=1e-6)
    said = str(caught.value)
    assert "fits distill.max_latency_ms 1e-06 and distill.max_megabytes 1e-06 on this machine" in said
    assert re.search(r"first 2 stages: \d+\.\d\d ms, \d+\.\d\d MB; first 4 stages: \d", said)
    assert "raise the limit, or add a smaller one to distill.candidates" in said
    assert not told


def figures(**milliseconds: float) -> dict[str, dict[str, float]]:
    return {name: {"latency_p50_ms": ms, "megabytes": ms / 4} for name, ms in milliseconds.items()}


@pytest.mark.parametrize(
    ("max_latency_ms", "megabytes", "fitting"),
    [(None, None, [0, 1]), (2.0, None, [0]), (None, 0.5, [0]), (8.0, 0.5, [0]), (2.0, 9.0, [0])],
)
def test_what_is_fast_and_small_enough_fits(
    max_latency_ms: float | None, megabytes: float | None, fitting: list[int]
) -> None:
    pair = [Candidate(name, build("test_resnet"), 0, {}) for name in ("quick", "slow")]
    cfg = CFG.model_copy(update={"max_latency_ms": max_latency_ms, "max_megabytes": megabytes})
    assert within_budget(pair, figures(quick=1.0, slow=4.0), cfg) == fitting


def test_a_candidate_that_is_close_to_the_limit_is_named(caplog: pytest.LogCaptureFixture) -> None:
    network = build("test_resnet")
    pair = [Candidate(name, network, 0, {}) for name in ("quick", "slow")]
    cfg = CFG.model_copy(update={"max_latency_ms": 2.0})
    assert within_budget(pair, figures(quick=1.0, slow=3.0), cfg) == [0]
    assert not caplog.records
    assert within_budget(pair, figures(quick=1.0, slow=2.1), cfg) == [0]
    assert "slow takes 2.10 ms, close to distill.max_latency_ms 2" in caplog.text


def test_a_network_of_its_own_learns_from_the_teacher_s_views(
    cache: Artifact, tmp_path: Path, weights_of: Callable[[str], Path]
) -> None:
    other = NamedCandidate(name="test_resnet", weights=str(weights_of("test_resnet")))
    result, teacher = grow(cache, tmp_path, candidates=[other], epochs=1)
    network = result.student.trained.network
    assert result.choice.meta["backbone"] == result.choice.name == "test_resnet"
    assert result.choice.start == 0
    own = image_network("test_resnet", 3, 32, other.weights)
    assert frozen_digest(result.controls["frozen"].trained.network, 5) == frozen_digest(own, 5)
    assert frozen_digest(network, 1) != frozen_digest(own, 1), "it trains from its first stage"
    assert same_state(teacher.state(), build("test_efficientnet").state())


def test_weights_that_cannot_be_had_are_told_by_the_key_that_names_them(
    cache: Artifact, tmp_path: Path
) -> None:
    nowhere = NamedCandidate(name="test_resnet", weights="nowhere.safetensors")
    with pytest.raises(BackboneError, match=r"distill\.candidates\.weights: nowhere\.safetensors does not"):
        grow(cache, tmp_path, candidates=[nowhere])
