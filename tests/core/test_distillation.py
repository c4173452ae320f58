from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from steps.core.batches import open_batches
from steps.core.config import StudentRecipe
from steps.core.distillation import Grown, grow_students, shorten, size
from steps.core.errors import BackboneError
from steps.core.loop import Epoch
from steps.core.network import Network, frozen_digest

from .toys import LIVELY, LOOK, MICRO_BATCH, RECIPE, VIEWS, Pictures, build, cached, same_state

CFG = StudentRecipe(
    **RECIPE.model_copy(update={"epochs": 3, "label_smoothing": 0.0}).model_dump(),
    keep_stages=4,
    head_lr=3e-3,
    ratio=0.5,
    temperature=2.0,
    alpha=0.9,
)


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
        "preprocessing": LOOK.to_dict(),
        "augmentation": LIVELY.model_dump(),
        "micro_batch": MICRO_BATCH,
        "oversampling": None,
    }
    return Artifact(source.index, source.shards, meta)


def grow(
    cache: Artifact, folder: Path, told: list[Epoch] | None = None, **changes: Any
) -> tuple[Grown, Network]:
    teacher = build("test_efficientnet")
    told = [] if told is None else told
    cfg = CFG.model_copy(update=changes)
    return grow_students(cache, teacher, cfg, 0, folder, folder / "way.safetensors", told.append), teacher


def test_a_student_is_the_first_stages_of_its_teacher_under_a_head_of_zeros(
    cache: Artifact, tmp_path: Path
) -> None:
    teacher = build("test_efficientnet")
    student = shorten(teacher, 4, open_batches(cache, 3, 5, 0, tmp_path))
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(student.run(x, 0, 4), teacher.run(x, 0, 4))
        assert not student(x).any()
    assert len(student.stages) == 4
    with torch.no_grad():
        next(student.stages[3].parameters()).add_(1)
    assert same_state(teacher.state(), build("test_efficientnet").state())


@pytest.mark.parametrize("keep", [0, 6, 9])
def test_a_student_as_deep_as_its_teacher_or_without_stages_is_refused(
    cache: Artifact, tmp_path: Path, keep: int
) -> None:
    with pytest.raises(BackboneError, match=rf"distill\.keep_stages: found {keep}, expected 1 to 5"):
        grow(cache, tmp_path, keep_stages=keep)


def test_the_student_is_smaller_and_the_teacher_stays_as_it_was(cache: Artifact, tmp_path: Path) -> None:
    grown, teacher = grow(cache, tmp_path)
    student = grown.student.network
    assert size(student) < size(teacher)
    assert grown.parameters_of_teacher == size(student) / size(teacher)
    assert same_state(teacher.state(), build("test_efficientnet").state())
    assert not any(module.training for module in teacher.stages.modules() if module is not teacher.stages)


def test_what_the_student_reads_from_the_cache_is_not_trained(cache: Artifact, tmp_path: Path) -> None:
    grown, teacher = grow(cache, tmp_path)
    assert frozen_digest(grown.student.network, 3) == frozen_digest(teacher, 3)
    assert frozen_digest(grown.student.network, 4) != frozen_digest(teacher, 4)


def test_a_student_cut_below_the_boundary_trains_on_pixels_from_the_first_stage(
    cache: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grown, teacher = grow(cache, tmp_path, keep_stages=2, epochs=1)
    assert "distill.keep_stages 2 is not above the freeze boundary 3" in caplog.text
    assert len(grown.student.network.stages) == 2
    assert frozen_digest(grown.student.network, 1) != frozen_digest(teacher, 1)


def test_without_the_teacher_s_word_student_and_control_are_the_same(cache: Artifact, tmp_path: Path) -> None:
    grown, _ = grow(cache, tmp_path, alpha=0.0)
    assert grown.metrics == grown.control_metrics
    other, _ = grow(cache, tmp_path, alpha=0.9)
    assert other.metrics["val_loss"] != other.control_metrics["val_loss"]
    assert other.control_metrics == grown.control_metrics


def test_growing_twice_gives_the_same_student_and_tells_its_epochs_only(
    cache: Artifact, tmp_path: Path
) -> None:
    told: list[Epoch] = []
    one, other = grow(cache, tmp_path, told)[0], grow(cache, tmp_path)[0]
    assert same_state(one.student.network.state(), other.student.network.state())
    assert told == one.student.history
    assert one.temperature == other.temperature > 0


def test_a_student_can_be_built_again_from_its_number_of_stages(cache: Artifact, tmp_path: Path) -> None:
    student = grow(cache, tmp_path)[0].student.network
    again = Network.build("test_efficientnet", 3, 32, keep=4)
    again.load_state(student.state())
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again(x), student(x))
