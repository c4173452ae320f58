"""The exported file gives the judged model's answers to pictures of every size and kind; see the bench."""

import pytest

from tests.bench.exports import SETS, TEMPERATURE, compare, keeps
from tests.core.toys import PREPROCESSING, build, exported


@pytest.mark.parametrize(("name", "way", "sizes"), SETS)
def test_a_set_keeps_to_the_limits_and_sees_the_same_pixels(
    name: str, way: str, sizes: tuple[int, int]
) -> None:
    file = exported(TEMPERATURE, "test_efficientnet")
    network = build("test_efficientnet")
    found = compare(network, PREPROCESSING, file, way, sizes, 1 if sizes[1] > 2000 else 2)
    assert keeps(found), (name, found)
