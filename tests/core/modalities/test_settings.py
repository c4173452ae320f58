from typing import Any

import pytest
from pydantic import ValidationError

from steps.core.modalities.settings import ModalitySettings
from tests.core.toys import image_settings, modalities


@pytest.mark.parametrize(
    "change", [{"min_side": 0}, {"formats": None}, {"size": 31}, {"size": 1025}, {"min_spread": 2.0}]
)
def test_settings_of_images_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        image_settings(**change)
    assert {error["loc"][0] for error in caught.value.errors()} == set(change)


def test_a_range_of_sides_that_nothing_fits_in_is_refused() -> None:
    with pytest.raises(ValidationError, match="min_side at most max_side"):
        image_settings(min_side=101, max_side=100)


@pytest.mark.parametrize(
    ("package", "section", "says"),
    [
        ("sounds", {}, "dotted name"),
        ("tests.no_such_package", {}, "to be a package"),
        ("tests.vectors", {"noise": -1.0}, "noise"),
        ("tests.vectors", {"noise": 0.1, "louder": 1}, "louder"),
    ],
)
def test_a_modality_of_one_s_own_is_a_package_whose_settings_are_read(
    package: str, section: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        ModalitySettings.model_validate({**modalities().model_dump(), package: section})


def test_settings_come_back_from_plain_types() -> None:
    own = {**modalities().model_dump(), "tests.vectors": {"noise": 0.1}}
    read = ModalitySettings.model_validate(own)
    assert read.of("tests.vectors").noise == 0.1
    assert read.packages == ["tests.vectors"]
    assert ModalitySettings.model_validate(read.model_dump()) == read
    assert modalities().packages == []
