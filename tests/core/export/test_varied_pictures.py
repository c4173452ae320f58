"""The exported file gives the judged model's answers to pictures of every size and kind; see the bench."""

from functools import cache

import pytest

from steps.core.export.onnx_export import export_onnx
from tests.bench.exports import SETS, TEMPERATURE, compare, keeps
from tests.core.toys import PREPROCESSING, build, graph_of


@cache
def file() -> bytes:
    return export_onnx(build("test_efficientnet"), graph_of(), TEMPERATURE)


@pytest.mark.parametrize(("name", "way", "sizes"), SETS)
def test_a_set_keeps_to_the_limits_and_sees_the_same_pixels(
    name: str, way: str, sizes: tuple[int, int]
) -> None:
    found = compare(
        build("test_efficientnet"), PREPROCESSING, file(), way, sizes, 1 if sizes[1] > 2000 else 2
    )
    assert keeps(found), (name, found)
