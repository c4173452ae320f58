import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from steps.core.evaluation.slices import slice_rows, source_folder, thirds
from steps.core.tasks.metrics import SingleLabelPredictions
from tests.core.toys import split_logits

N = 90


def table(**columns: object) -> pd.DataFrame:
    paths = [f"test/red/{'old' if n % 2 else 'new'}/{n}.png" for n in range(N)]
    return pd.DataFrame({"path": paths, "label": "red", "split": "test", **columns})


def outcome(right: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> SingleLabelPredictions:
    labels = np.zeros(N, dtype=np.int64)
    return SingleLabelPredictions(split_logits(labels, 2, right, 1.0), labels, 1.0)


def test_the_weakest_part_comes_first_with_its_interval() -> None:
    facts = pd.DataFrame({"brightness": np.arange(N) / N})
    rows = slice_rows(outcome(np.arange(N) >= 20), table(), facts)
    assert (rows[0]["kind"], rows[0]["slice"], rows[0]["samples"]) == ("brightness", "low", 30)
    assert rows[0]["accuracy"] == pytest.approx(1 / 3)
    wilson = binomtest(10, 30).proportion_ci(method="wilson")
    assert (rows[0]["low"], rows[0]["high"]) == (wilson.low, wilson.high)
    assert {row["slice"] for row in rows if row["kind"] == "folder"} == {"old", "new"}


def test_groups_are_slices_where_they_are_few_and_large() -> None:
    groups = ["a"] * 40 + ["b"] * 45 + ["c"] * 5
    rows = slice_rows(outcome(np.arange(N) < 40), table(group=groups), pd.DataFrame(index=range(N)))
    found = {row["slice"]: row["accuracy"] for row in rows if row["kind"] == "group"}
    assert found == {"a": 1.0, "b": 0.0}


def test_what_is_the_same_everywhere_divides_nothing() -> None:
    flat = table(path=[f"{n}.png" for n in range(N)], group=[None] * N)
    assert slice_rows(outcome(np.ones(N, dtype=bool)), flat, pd.DataFrame({"size": [9.0] * N})) == []


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("test/red/1.png", "."),
        ("red/1.png", "."),
        ("cam1/red/1.png", "cam1"),
        ("a/b/1.png", "a/b"),
        ("1.png", "."),
    ],
)
def test_a_folder_is_what_names_neither_class_nor_split(path: str, folder: str) -> None:
    assert source_folder(path, "red", "test") == folder


def test_thirds_are_thirds() -> None:
    names = thirds(pd.Series(np.random.default_rng(0).normal(size=300)))
    assert names.value_counts().to_dict() == {"low": 100, "middle": 100, "high": 100}
