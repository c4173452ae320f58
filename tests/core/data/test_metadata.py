"""A folder whose labels stand in a table beside the files, as `datasets` and Roboflow have it."""

import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from steps.core.data.files import Folder
from steps.core.data.layouts import find_ignored_files, read_layout
from steps.core.data.settings import Columns
from steps.core.system.errors import DataError
from tests.core.data.test_layouts import touch
from tests.core.toys import KINDS

ROWS = [("a.png", "cat"), ("b.png", "dog"), ("c.png", "cat")]


def read(root: Path | str, tmp_path: Path, said: Columns | None = None) -> list[tuple[Any, ...]]:
    """Return path, label or labels, and split of every row."""
    place, table = read_layout(str(root), tmp_path / "remote", KINDS, said)
    column = "labels" if "labels" in table else "label"
    assert list(table.columns) == ["path", column, "split", "group"]
    for path in table["path"]:
        assert Folder(place, tmp_path).read(path) == b"pixels"
    return list(table[["path", column, "split"]].itertuples(index=False, name=None))


def write_table(place: Path, ending: str, rows: list[tuple[str, str]]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows, columns=["file_name", "label"])
    if ending == "csv":
        table.to_csv(place, index=False)
    elif ending == "parquet":
        table.to_parquet(place)
    else:
        place.write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_table_in_every_split_s_folder_says_the_labels(tmp_path: Path, ending: str) -> None:
    root = tmp_path / "set"
    for split in ("train", "validation"):
        touch(root, *(f"{split}/{name}" for name, _ in ROWS))
        write_table(root / split / f"metadata.{ending}", ending, ROWS)
    assert read(root, tmp_path) == [
        *((f"train/{name}", label, "train") for name, label in ROWS),
        *((f"validation/{name}", label, "val") for name, label in ROWS),
    ]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_table_at_the_root_names_files_in_split_folders(tmp_path: Path, ending: str) -> None:
    root = tmp_path / "set"
    rows = [("train/a.png", "cat"), ("train/b.png", "dog"), ("test/c.png", "cat")]
    touch(root, *(name for name, _ in rows))
    write_table(root / f"metadata.{ending}", ending, rows)
    assert read(root, tmp_path) == [
        ("train/a.png", "cat", "train"), ("train/b.png", "dog", "train"), ("test/c.png", "cat", "test"),
    ]  # fmt: skip


def test_a_table_beside_the_files_says_no_split(tmp_path: Path) -> None:
    touch(tmp_path / "set", *(name for name, _ in ROWS))
    write_table(tmp_path / "set/metadata.csv", "csv", ROWS)
    assert read(tmp_path / "set", tmp_path) == [(name, label, None) for name, label in ROWS]


def test_a_table_without_labels_leaves_them_to_the_folders_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "set"
    paths = [f"{label}/{n}.png" for label in ("cat", "dog") for n in range(4)]
    touch(root, *paths)
    rows = "".join(f"{path},{'phone' if n % 2 else 'reflex'}\n" for n, path in enumerate(paths))
    (root / "metadata.csv").write_text(f"file_name,camera\n{rows}")
    with caplog.at_level(logging.INFO):
        assert read(root, tmp_path) == [(path, path[:3], None) for path in paths]
    assert caplog.messages == ["metadata.csv has no column label: the classes are the folders"]


def test_the_parameters_may_name_the_column_that_the_folders_would_hide(tmp_path: Path) -> None:
    root = tmp_path / "set"
    touch(root, "x/1.png", "x/2.png")
    (root / "metadata.csv").write_text("file_name,camera\nx/1.png,phone\nx/2.png,reflex\n")
    said = Columns(path=None, label="camera", split=None, group=None)
    assert read(root, tmp_path, said) == [("x/1.png", "phone", None), ("x/2.png", "reflex", None)]


def test_files_without_a_row_are_left_out_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "set"
    touch(root, *(name for name, _ in ROWS), "d.png")
    write_table(root / "metadata.csv", "csv", ROWS)
    with caplog.at_level(logging.INFO):
        assert len(read(root, tmp_path)) == 3
    assert "1 files have no row in metadata.csv and are not used, such as d.png" in caplog.messages
    left = find_ignored_files(Folder(str(root), tmp_path), KINDS.endings, {name for name, _ in ROWS})
    assert left["no row"] == ["d.png"]


def test_a_row_whose_file_is_gone_keeps_its_name(tmp_path: Path) -> None:
    touch(tmp_path / "set", "a.png", "b.png")
    write_table(tmp_path / "set/metadata.csv", "csv", ROWS)
    _, table = read_layout(str(tmp_path / "set"), tmp_path, KINDS)
    assert list(table["path"]) == ["a.png", "b.png", "c.png"]


def test_one_hot_tables_of_several_splits_are_label_sets_if_one_of_them_says_so(tmp_path: Path) -> None:
    root = tmp_path / "set"
    touch(root, "train/a.jpg", "train/b.jpg", "valid/c.jpg", "valid/d.jpg")
    (root / "train/_classes.csv").write_text("filename, rust, blight\na.jpg, 1, 0\nb.jpg, 0, 1\n")
    (root / "valid/_classes.csv").write_text("filename, rust, blight\nc.jpg, 1, 1\nd.jpg, 0, 0\n")
    assert read(root, tmp_path) == [
        ("train/a.jpg", "rust", "train"), ("train/b.jpg", "blight", "train"),
        ("valid/c.jpg", "blight|rust", "val"), ("valid/d.jpg", "", "val"),
    ]  # fmt: skip
    (root / "valid/_classes.csv").write_text("filename, rust, blight\nc.jpg, 1, 0\nd.jpg, 0, 1\n")
    assert [row[1] for row in read(root, tmp_path)] == ["rust", "blight", "rust", "blight"]
    assert "label" in read_layout(str(root), tmp_path, KINDS)[1]


def test_tables_of_different_columns_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "set"
    touch(root, "train/a.jpg", "valid/c.jpg")
    (root / "train/_classes.csv").write_text("filename,rust\na.jpg,1\n")
    (root / "valid/_classes.csv").write_text("filename,scab\nc.jpg,1\n")
    with pytest.raises(DataError, match=r"valid/_classes\.csv has the columns .*scab.*: expected the same"):
        read(root, tmp_path)
