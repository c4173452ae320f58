from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

import steps.core.audit.limits
import steps.core.strategy.search_space  # noqa: F401
from steps.core.backbones.settings import Unfreeze
from steps.core.distillation.settings import CutCandidate, NamedCandidate, StudentRecipe
from steps.core.modalities.image.settings import Augmentation
from steps.core.system.config import Config
from steps.core.training.recipe import Recipe
from tests.core.toys import AUGMENTATION, RECIPE


def kinds(base: type[Config] = Config) -> Iterator[type[Config]]:
    for kind in base.__subclasses__():
        if kind.__module__.startswith("steps.core"):
            yield kind
            yield from kinds(kind)


@pytest.mark.parametrize("kind", sorted(set(kinds()), key=str), ids=lambda k: k.__name__)
def test_no_config_has_a_default(kind: type[Config]) -> None:
    assert kind.model_fields
    assert [name for name, field in kind.model_fields.items() if not field.is_required()] == []


def test_every_config_of_core_is_found_by_the_test_above() -> None:
    names = {kind.__name__ for kind in kinds()}
    assert {"Augmentation", "BackboneConfig", "CacheSettings", "Limits", "Recipe", "SearchSpace"} <= names


BAD: list[tuple[type[Config], dict[str, Any]]] = [
    (Recipe, {"epochs": 0}),
    (Recipe, {"epochs": 1.5}),
    (Recipe, {"epochs": "3"}),
    (Recipe, {"batch_size": 1}),  # BatchNorm has no variance of one
    (Recipe, {"weight_decay": -0.1}),
    (Recipe, {"schedule": "linear"}),
    (Recipe, {"warmup": 1.1}),
    (Recipe, {"clip_norm": 0.0}),
    (Recipe, {"label_smoothing": 1.0}),
    (Recipe, {"mixup": -1.0}),
    (Recipe, {"patience": 0}),
    (Recipe, {"monitor": "f1"}),
    (Recipe, {"class_weights": "sqrt"}),
    (Recipe, {"min_steps": -1}),
    (Recipe, {"batch_norm": True}),
    (Recipe, {"epoch": 3}),
    (Augmentation, {"crop_area": [0.5]}),
    (Augmentation, {"crop_area": [0.5, 1.2]}),
    (Augmentation, {"crop_aspect": [0.0, 1.0]}),
    (Augmentation, {"rotation": 181.0}),
    (Augmentation, {"horizontal_flip": -0.1}),
]


@pytest.mark.parametrize(("kind", "change"), BAD, ids=str)
def test_a_value_out_of_range_of_a_wrong_type_or_of_an_unknown_name_is_refused(
    kind: type[Config], change: dict[str, Any]
) -> None:
    good = (RECIPE if kind is Recipe else AUGMENTATION).model_dump()
    kind.model_validate(good)
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({**good, **change})
    assert [error["loc"][0] for error in caught.value.errors()] == list(change)


@pytest.mark.parametrize("field", ["weight_decay", "mixup"])
def test_infinity_is_refused(field: str) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate({**RECIPE.model_dump(), field: float("inf")})


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RECIPE.epochs = 3  # type: ignore[misc]


def test_a_whole_number_may_stand_for_a_rate() -> None:
    assert Recipe.model_validate({**RECIPE.model_dump(), "clip_norm": 1}).clip_norm == 1.0


class Asked(Config):
    unfreeze: Unfreeze


@pytest.mark.parametrize(
    ("unfreeze", "good"), [(0, True), (4, True), ("all", True), (-1, False), ("some", False)]
)
def test_unfreeze_is_a_number_of_stages_or_all(unfreeze: Any, good: bool) -> None:
    if good:
        assert Asked(unfreeze=unfreeze).unfreeze == unfreeze
    else:
        with pytest.raises(ValidationError, match="unfreeze"):
            Asked(unfreeze=unfreeze)


def student_fields(**changes: Any) -> dict[str, Any]:
    own = {
        "candidates": [{"keep_stages": 1}],
        "max_latency_ms": None,
        "max_megabytes": None,
        "latency_runs": 1,
    }
    return {**RECIPE.model_dump(), **own, "head_lr": 0.1, "temperature": 1.0, "alpha": 0.5, **changes}


@pytest.mark.parametrize(
    ("candidates", "good"),
    [
        ([{"keep_stages": 3}, {"name": "test_resnet", "weights": "hub"}], True),
        ([], False),
        ([{"keep_stages": 0}], False),
        ([{"name": "test_resnet"}], False),
        ([{"keep_stages": 3, "weights": "hub"}], False),
        ([3], False),
    ],
)
def test_a_candidate_is_a_cut_or_a_network_with_weights(candidates: Any, good: bool) -> None:
    fields = student_fields(candidates=candidates, ratio=0.5)
    if good:
        cut, other = StudentRecipe(**fields).candidates
        assert (cut, other) == (
            CutCandidate(keep_stages=3),
            NamedCandidate(name="test_resnet", weights="hub"),
        )
    else:
        with pytest.raises(ValidationError, match="candidates"):
            StudentRecipe(**fields)


def test_a_student_s_ratio_is_never_above_one() -> None:
    fields = student_fields()
    assert StudentRecipe(**fields, ratio=1.0).ratio == 1.0
    with pytest.raises(ValidationError, match="ratio"):
        StudentRecipe(**fields, ratio=1.01)
