"""How much two sets of files share, from sketches of a bounded size."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.core.data.overlap import DIGITS, SIZE, shared, sketch


def digests(first: int, count: int) -> list[str]:
    return [hashlib.sha256(str(n).encode()).hexdigest() for n in range(first, first + count)]


@given(st.integers(1, SIZE), st.integers(1, SIZE), st.integers(0, SIZE))
def test_sets_that_fit_into_their_sketches_are_compared_exactly(one: int, other: int, first: int) -> None:
    a, b = digests(0, one), digests(first, other)
    wanted = len(set(a) & set(b)) / min(one, other)
    assert shared(sketch(a), sketch(b)) == shared(sketch(b), sketch(a)) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("one", "other", "first", "wanted"),
    [
        (525, 526, 0, 1.0),  # one image added
        (5000, 5000, 5000, 0.0),  # another set
        (5000, 5000, 2500, 0.5),
        (5000, 5000, 500, 0.9),
        (5000, 15000, 0, 1.0),  # grown to three times its size
        (2000, 20000, 1000, 0.5),
    ],
)
def test_larger_ones_are_estimated_within_three_standard_errors(
    one: int, other: int, first: int, wanted: float
) -> None:
    found = shared(sketch(digests(0, one)), sketch(digests(first, other)))
    seen = SIZE * min(one, other) / max(one, other)  # members of the smaller set below both ends
    assert abs(found - wanted) <= 3 * np.sqrt(max(wanted * (1 - wanted), 0.0) / seen) + 1e-12


def test_a_sketch_depends_on_the_files_alone_and_fits_into_a_tag() -> None:
    many = digests(0, 20000)
    assert sketch(many) == sketch(reversed(many)) == sketch([*many, many[3]])
    assert len(sketch(many)) == len("20000:") + SIZE * DIGITS < 5000


def test_nothing_is_shared_with_no_files() -> None:
    assert shared(sketch([]), sketch(digests(0, 5))) == 0.0
