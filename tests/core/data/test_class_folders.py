"""Folders above and below those of the classes: read as documented, in one line, or refused."""

import logging
from pathlib import Path

import pytest

from steps.core.data.layouts import read_layout
from steps.core.system.errors import DataError
from tests.core.data.test_layouts import touch
from tests.core.data.test_metadata import read
from tests.core.toys import KINDS

NESTED = ["apple/healthy/1.png", "apple/rust/2.png", "pear/4.png", "pear/rust/3.png"]


def test_folders_below_a_class_belong_to_it_and_the_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = touch(tmp_path / "set", *NESTED)
    with caplog.at_level(logging.INFO):
        assert read(root, tmp_path) == [(path, path.split("/")[0], None) for path in NESTED]
    assert caplog.messages == [
        "the classes are 2 folders; what lies deeper belongs to them, as apple/healthy to apple"
    ]


def test_below_splits_too(tmp_path: Path) -> None:
    paths = [f"{split}/{path}" for split in ("test", "train") for path in NESTED]
    expected = [(path, path.split("/")[1], path.split("/")[0]) for path in paths]
    assert read(touch(tmp_path / "set", *paths), tmp_path) == expected


@pytest.mark.parametrize("above", ["PetImages", "archive/PetImages"])
@pytest.mark.parametrize("split", ["", "train/"])
def test_a_folder_around_everything_is_no_class(
    tmp_path: Path, above: str, split: str, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [f"{above}/{split}{label}/{n}.jpg" for label in ("cat", "dog") for n in range(2)]
    root = touch(tmp_path / "set", *paths, "readme.txt", "__MACOSX/PetImages/cat/._0.jpg")
    with caplog.at_level(logging.INFO):
        found = read(root, tmp_path)
    assert found == [(path, path.split("/")[-2], "train" if split else None) for path in paths]
    assert caplog.messages == [f"the classes are the 2 folders in {above}"]


def test_one_class_alone_is_no_folder_around_its_files(tmp_path: Path) -> None:
    assert read(touch(tmp_path / "set", "cat/1.png", "cat/2.png"), tmp_path) == [
        ("cat/1.png", "cat", None), ("cat/2.png", "cat", None),
    ]  # fmt: skip


@pytest.mark.parametrize("paths", [["1.png"], ["train/1.png", "test/2.png"], ["notes/a.md"]])
def test_a_folder_that_is_no_layout_names_the_table_that_may_say_the_labels(
    tmp_path: Path, paths: list[str]
) -> None:
    root = touch(tmp_path / "set", *paths, "train.csv", "deep/other.csv")
    with pytest.raises(DataError, match=r"; if train\.csv says the labels, set ingest_data\.path to it"):
        read_layout(root, tmp_path, KINDS)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["train_images/1.png", "test_images/2.png"], r"\['test_images', 'train_images'\]"),
        (["images/1.png", "masks/1.png"], r"\['images', 'masks'\]"),
        (["train/images/1.png", "val/images/2.png"], r"\['images'\] of train"),
        (["train/n1/images/1.png", "train/n2/images/1.png", "val/images/2.png"], r"\['images'\] of val"),
    ],
)
def test_folders_that_are_parts_of_a_data_set_are_never_taken_for_classes(
    tmp_path: Path, paths: list[str], names: str
) -> None:
    root = touch(tmp_path / "set", *paths, "train.csv")
    says = rf"the folders {names} are called like parts of a data set.*if train\.csv says the labels"
    with pytest.raises(DataError, match=says):
        read_layout(root, tmp_path, KINDS)


def test_classes_whose_names_hold_such_a_word_are_classes(tmp_path: Path) -> None:
    paths = ["bullet train/1.png", "label printer/2.png", "mask/3.png", "test tube/4.png"]
    assert [row[1] for row in read(touch(tmp_path / "set", *paths), tmp_path)] == [
        path.split("/")[0] for path in paths
    ]
