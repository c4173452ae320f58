"""One label per sample, or a set of them: how manifests say so, and what stays the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.core.data.ingest import correct_labels
from steps.core.data.layouts import read_layout
from steps.core.system.errors import DataError
from steps.core.tasks.labelling import LABEL_SETS, ONE_LABEL, join_labels, split_labels
from tests.core.toys import KINDS

NAMES = ["blue", "green", "red"]
CELLS = pd.Series(["red", "", "blue|red", "blue|green|red"])
WORDS = st.lists(st.text("abcdé -", min_size=1).filter(lambda word: word.strip() == word), unique=True)


def csv(tmp_path: Path, text: str) -> str:
    (tmp_path / "manifest.csv").write_text(text)
    return str(tmp_path / "manifest.csv")


def parquet(tmp_path: Path, **columns: list[Any]) -> str:
    pd.DataFrame(columns).to_parquet(tmp_path / "manifest.parquet")
    return str(tmp_path / "manifest.parquet")


def table_of(path: str) -> pd.DataFrame:
    return read_layout(path, Path(path).parent / "remote", KINDS)[1]


@given(WORDS, st.randoms())
def test_a_set_is_a_set_whatever_the_order_and_the_repetitions(words: list[str], random: Any) -> None:
    again = [*words, *words[:1]]
    random.shuffle(again)
    assert LABEL_SETS.normalised("|".join(again)) == join_labels(words)
    assert split_labels(join_labels(words)) == sorted(words)


def test_a_csv_with_a_bar_in_a_label_holds_sets_and_rows_may_be_empty(tmp_path: Path) -> None:
    table = table_of(csv(tmp_path, "path,label\na.png,red | blue\nb.png,\nc.png,red\n"))
    assert list(table.columns) == ["path", "labels", "split", "group"]
    assert list(table["labels"]) == ["blue|red", "", "red"]


def test_a_column_labels_holds_sets_even_where_every_row_has_one(tmp_path: Path) -> None:
    assert list(table_of(csv(tmp_path, "path,labels\na.png,red\nb.png,blue\n"))["labels"]) == ["red", "blue"]


def test_a_list_column_says_the_same_as_bars(tmp_path: Path) -> None:
    lists = table_of(parquet(tmp_path, path=["a", "b", "c"], label=[["red", "blue"], [], ["red"]]))
    bars = table_of(csv(tmp_path, "path,label\na,blue|red\nb,\nc,red\n"))
    pd.testing.assert_frame_equal(lists, bars)


def test_without_bars_and_lists_a_manifest_is_of_single_labels(tmp_path: Path) -> None:
    assert list(table_of(csv(tmp_path, "path,label\na.png,red\nb.png,blue\n")).columns)[1] == "label"
    with pytest.raises(DataError, match=r"line 3: label is empty; .* call the column labels"):
        table_of(csv(tmp_path, "path,label\na.png,red\nb.png,\n"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,label\na.png,red||blue\n", r"line 2: label is 'red\|\|blue': expected one \| between"),
        ("path,label\na.png,red|blue\nb.png,red|\n", r"line 3: label is 'red\|'"),
        ("path,label,labels\na.png,red,red\n", "has a column label and a column labels"),
    ],
)
def test_an_ambiguous_csv_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        table_of(csv(tmp_path, text))


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ([["red"], None], r"line 3: labels is None, elsewhere a list: write an empty list"),
        ([["red"], ["a|b"]], r"line 3: labels are \['a\|b'\]: none may be empty or contain"),
        ([["red"], [""]], r"line 3: labels are \[''\]"),
    ],
)
def test_an_ambiguous_list_column_is_refused(tmp_path: Path, cells: list[Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        table_of(parquet(tmp_path, path=["a", "b"], labels=cells))


def test_single_labels_become_numbers_and_sets_become_indicators() -> None:
    np.testing.assert_array_equal(ONE_LABEL.encode(pd.Series(["red", "blue"]), NAMES), [2, 0])
    wanted = [[0, 0, 1], [0, 0, 0], [1, 0, 1], [1, 1, 1]]
    np.testing.assert_array_equal(LABEL_SETS.encode(CELLS, NAMES), wanted)


def test_members_count_every_label_of_a_set_and_nothing_of_an_empty_one() -> None:
    members = LABEL_SETS.explode(CELLS)
    assert members.value_counts().to_dict() == {"red": 3, "blue": 2, "green": 1}
    assert list(members.index) == [0, 2, 2, 3, 3, 3]
    assert list(ONE_LABEL.explode(CELLS)) == list(CELLS)


def test_a_set_is_allowed_if_each_of_its_labels_is() -> None:
    assert set(LABEL_SETS.allowed_cells(CELLS, ["blue", "red"])) == {"blue", "red", "", "blue|red"}


def test_corrections_of_sets_may_be_written_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "corrections.csv").write_text("path,label\na,red|blue\nb,\nc,green|blue\n")
    table = pd.DataFrame({"path": ["a", "b", "c"], "label": ["blue|red", "red", "red"]})
    found = correct_labels(table, tmp_path / "corrections.csv", LABEL_SETS)
    assert list(found["label"]) == ["blue|red", "", "blue|green"]
    assert [None if old != old else old for old in found["corrected_from"]] == [None, "red", "red"]
