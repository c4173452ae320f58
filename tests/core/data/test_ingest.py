import hashlib
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Pillow

from steps.core.data.files import Folder
from steps.core.data.hub import local_copy, write_dataset
from steps.core.data.ingest import describe_sample
from steps.core.data.layouts import read_layout
from steps.core.system.errors import DataError
from tests.core.toys import IMAGE, KINDS, described, draw_pictures, encode, picture

NAMES = ["cat", "dog/wolf"]


def hub(rows: dict[str, list[int | None]], names: list[str] = NAMES) -> DatasetDict:
    """A data set as the hub would give it, with a picture per label."""
    features = Features({"img": Image(), "note": Value("string"), "fine_label": ClassLabel(names=names)})
    splits = {}
    for split, labels in rows.items():
        pictures = [{"bytes": encode(picture(n)), "path": None} for n in range(len(labels))]
        columns = {"img": pictures, "note": ["x"] * len(labels), "fine_label": labels}
        splits[split] = Dataset.from_dict(columns, features=features)
    return DatasetDict(splits)


def test_a_file_is_described_by_its_content(tmp_path: Path) -> None:
    data = encode(picture(1, 20, 30), "JPEG")
    (tmp_path / "a.png").write_bytes(data)
    assert describe_sample(Folder(str(tmp_path), tmp_path), "a.png", IMAGE.describe, IMAGE.blank_facts) == {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "format": "JPEG",
        "mode": "RGB",
        "width": 30,
        "height": 20,
        "error": None,
    }


def test_broken_and_missing_files_get_an_error_and_the_others_are_described_all_the_same(
    tmp_path: Path,
) -> None:
    own = draw_pictures(tmp_path / "own", {"train": 2})
    (own.root / "train/red/0.png").write_bytes(b"no image at all")
    (own.root / "train/blue/1.png").unlink()
    table = own.table[["path", "label", "split"]].assign(group=None)
    found = described(own.folder(), table)
    assert list(found.columns) == [
        *("path", "label", "corrected_from", "split", "group", "sha256", "bytes"),
        *("format", "mode", "width", "height", "error"),
    ]
    assert list(found["path"]) == list(table["path"])
    broken = found[found["error"].notna()].set_index("path")
    assert set(broken.index) == {"train/red/0.png", "train/blue/1.png"}
    assert broken.loc["train/red/0.png", "bytes"] == 15
    assert broken.loc["train/red/0.png", "sha256"] == hashlib.sha256(b"no image at all").hexdigest()
    assert broken.loc["train/blue/1.png", "error"] == "no such file: train/blue/1.png"
    whole = found[found["error"].isna()]
    assert list(whole["sha256"]) == [
        s for p, s in zip(own.table["path"], own.table["sha256"], strict=True) if p not in broken.index
    ]
    assert (whole["format"] == "PNG").all()


def test_two_files_that_cannot_be_read_are_told_apart(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": ["x.png", "y.png"], "label": "a", "split": None, "group": None})
    found = described(Folder(str(tmp_path), tmp_path), table)
    assert found["sha256"].nunique() == 2
    assert found["sha256"].str.len().eq(64).all()


def test_a_path_that_is_no_hub_name_is_left_as_it_is(tmp_path: Path) -> None:
    assert local_copy("some/where", tmp_path, KINDS) == "some/where"
    assert local_copy("memory://hub", tmp_path, KINDS) == "memory://hub"


def test_a_hub_data_set_that_was_written_before_is_not_loaded_again(tmp_path: Path) -> None:
    (tmp_path / "hub/someone--birds").mkdir(parents=True)
    assert local_copy("hub:someone/birds", tmp_path, KINDS) == str(tmp_path / "hub/someone--birds")


def test_a_hub_data_set_becomes_folders_that_can_be_read_as_a_layout(tmp_path: Path) -> None:
    write_dataset(hub({"train": [0, 1, 0], "validation": [1], "test": [0, 1]}), tmp_path / "pets", KINDS)
    root, table = read_layout(str(tmp_path / "pets"), tmp_path / "remote", KINDS)
    folder = Folder(root, tmp_path / "remote")
    counts = table.groupby(["split", "label"]).size().to_dict()
    assert counts == {
        ("train", "cat"): 2,
        ("train", "dog%2Fwolf"): 1,
        ("val", "dog%2Fwolf"): 1,
        ("test", "cat"): 1,
        ("test", "dog%2Fwolf"): 1,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["pets"]
    first = table.loc[table["path"].str.startswith("train/cat/0000000"), "path"].item()
    assert folder.read(first) == encode(picture(0))


def test_pictures_that_lie_in_files_are_copied_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "raw.jpg").write_bytes(encode(picture(5), "JPEG"))
    features = Features({"image": Image(), "label": ClassLabel(names=["cat"])})
    columns = {"image": [str(tmp_path / "raw.jpg")], "label": [0]}
    write_dataset(
        DatasetDict({"train": Dataset.from_dict(columns, features=features)}), tmp_path / "pets", KINDS
    )
    (written,) = (tmp_path / "pets/train/cat").iterdir()
    assert written.suffix == ".jpg"
    assert written.read_bytes() == (tmp_path / "raw.jpg").read_bytes()


@pytest.mark.parametrize("kept", [{"img": Image()}, {"fine_label": ClassLabel(names=NAMES)}])
def test_a_data_set_without_pictures_or_labels_is_refused(tmp_path: Path, kept: dict[str, Any]) -> None:
    splits = hub({"train": [0, 1]})
    splits = DatasetDict({name: rows.select_columns(list(kept)) for name, rows in splits.items()})
    with pytest.raises(DataError, match="expected a label and a sample"):
        write_dataset(splits, tmp_path / "pets", KINDS)
    assert not (tmp_path / "pets").exists()


def test_a_picture_without_a_label_is_never_given_one(tmp_path: Path) -> None:
    splits = hub({"train": [0, 1], "test": [-1, -1]}, ["cat", "dog"])
    try:
        write_dataset(splits, tmp_path / "pets", KINDS)
    except DataError:
        return
    assert not list((tmp_path / "pets/test").rglob("*.png"))


def test_an_empty_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        write_dataset(hub({"train": [0, None]}), tmp_path / "pets", KINDS)


@pytest.mark.parametrize("name", ["..", ".hidden"])
def test_a_class_of_any_name_is_found_again(tmp_path: Path, name: str) -> None:
    write_dataset(hub({"train": [0, 1], "test": [0, 1]}, [name, "dog"]), tmp_path / "pets", KINDS)
    _, table = read_layout(str(tmp_path / "pets"), tmp_path / "remote", KINDS)
    assert table.groupby("split")["label"].nunique().to_dict() == {"train": 2, "test": 2}


def test_a_refused_data_set_leaves_nothing_behind(tmp_path: Path) -> None:
    splits = hub({"train": [0, 1]})
    splits["test"] = splits["train"].select_columns(["img"])
    with pytest.raises(DataError):
        write_dataset(splits, tmp_path / "pets", KINDS)
    if left := [path.name for path in tmp_path.iterdir()]:
        raise OSError(f"left behind: {left}")


def test_pictures_survive_as_pictures(tmp_path: Path) -> None:
    write_dataset(hub({"train": [0], "test": [1]}), tmp_path / "pets", KINDS)
    for path in (tmp_path / "pets").rglob("*.png"):
        assert Pillow.open(io.BytesIO(path.read_bytes())).size == (48, 40)


def test_two_classes_whose_names_differ_in_a_slash_stay_two(tmp_path: Path) -> None:
    write_dataset(hub({"train": [0, 1], "test": [0, 1]}, ["dog/wolf", "dog_wolf"]), tmp_path / "pets", KINDS)
    assert read_layout(str(tmp_path / "pets"), tmp_path / "remote", KINDS)[1]["label"].nunique() == 2
