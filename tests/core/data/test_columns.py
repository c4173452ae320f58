"""Tables whose columns are called otherwise: given what people have, and what must be read."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from steps.core.data.layouts import list_samples, read_layout
from steps.core.data.settings import Columns
from steps.core.modalities.registry import Known
from steps.core.system.errors import DataError
from tests.core.data.test_layouts import touch
from tests.core.data.test_metadata import read
from tests.core.toys import KINDS

CLASSES = ["cat", "dog", "cat", "dog", "cat", "dog"]


def table(place: Path, header: str, rows: list[str]) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("\n".join([header, *rows]) + "\n")
    return place


def said(**names: Any) -> Columns:
    return Columns(**{"path": None, "label": None, "split": None, "group": None, **names})


def test_ids_are_found_as_files_in_the_folder_called_like_the_table(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, *(f"{split}/id{n}.jpg" for split in ("train", "test") for n in range(6)))
    place = table(tmp_path / "train.csv", "image_id,label", [f"id{n},{one}" for n, one in enumerate(CLASSES)])
    with caplog.at_level(logging.INFO):
        found = read(place, tmp_path)
    assert found == [(f"train/id{n}.jpg", one, None) for n, one in enumerate(CLASSES)]
    assert caplog.messages == ["train.csv: path is image_id; label is label, the first train/id0.jpg"]


@pytest.mark.parametrize(
    ("cell", "file"),
    [
        ("{n}", "images/{n}.png"),  # without ending
        ("{n}.png", "images/{n}.png"),  # in a folder beside
        ("{n}.jpg", "images/{n}.png"),  # converted since
        ("./images/{n}.png", "images/{n}.png"),
        ("images\\{n}.png", "images/{n}.png"),  # written by Windows
        ("C:\\Users\\me\\set\\images\\{n}.png", "images/{n}.png"),
        ("/home/me/set/images/{n}.png", "images/{n}.png"),  # of another machine
        ("sub/{n}", "images/sub/{n}.JPG"),
        ("https://host/set/{n}.png", "images/{n}.png"),
    ],
)
def test_a_cell_finds_its_file(tmp_path: Path, cell: str, file: str) -> None:
    touch(tmp_path, *(file.format(n=n) for n in range(6)), "images/notes.txt")
    rows = [f"{cell.format(n=n)},{one}" for n, one in enumerate(CLASSES)]
    place = table(tmp_path / "list.csv", "Photo,kind", rows)
    assert read(place, tmp_path) == [(file.format(n=n), one, None) for n, one in enumerate(CLASSES)]


def test_files_that_are_spread_over_folders_are_found_by_name(tmp_path: Path) -> None:
    touch(tmp_path, *(f"part_{n % 2}/id{n}.jpg" for n in range(6)))
    place = table(tmp_path / "meta.csv", "id,dx", [f"id{n},{one}" for n, one in enumerate(CLASSES)])
    assert read(place, tmp_path) == [(f"part_{n % 2}/id{n}.jpg", one, None) for n, one in enumerate(CLASSES)]


def test_a_name_in_several_folders_is_the_one_whose_folders_the_row_names(tmp_path: Path) -> None:
    files = [
        f"{split}/{one}/{n}.jpg" for split in ("train", "val") for one in ("cat", "dog") for n in range(3)
    ]
    touch(tmp_path, *files)
    rows = [f"{path[-5:]},{path.split('/')[1]},{'valid' if path[0] == 'v' else 'train'}" for path in files]
    place = table(tmp_path / "list.csv", "file,animal,set", rows)
    assert read(place, tmp_path) == [(path, path.split("/")[1], path.split("/")[0]) for path in files]


def test_a_name_in_several_folders_that_nothing_tells_apart_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{folder}/{n}.jpg" for folder in "ab" for n in range(6)))
    place = table(tmp_path / "list.csv", "file,kind", [f"{n}.jpg,{one}" for n, one in enumerate(CLASSES)])
    with pytest.raises(
        DataError, match=r"list\.csv, column file: 0\.jpg may be any of \['a/0\.jpg', 'b/0\.jpg'\]"
    ):
        read(place, tmp_path)


def test_a_missing_file_is_never_replaced_by_one_of_that_name_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path, *(f"train/{n}.jpg" for n in range(19)), "old/19.jpg")
    place = table(tmp_path / "list.csv", "file,kind", [f"{n}.jpg,{CLASSES[n % 2]}" for n in range(20)])
    _, found = read_layout(str(place), tmp_path / "remote", KINDS)
    assert list(found["path"]) == [*(f"train/{n}.jpg" for n in range(19)), "19.jpg"]


def test_a_missing_file_is_never_replaced_by_one_of_another_class(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{one}/{n}.jpg" for one in ("cat", "dog") for n in range(9)), "dog/9.jpg")
    rows = [f"{one}/{n}.jpg,{one}" for one in ("cat", "dog") for n in range(10)]
    _, found = read_layout(str(table(tmp_path / "list.csv", "path,label", rows)), tmp_path, KINDS)
    assert list(found["path"]) == [row.split(",")[0] for row in rows]


def test_a_column_of_whole_names_goes_before_numbers_that_are_names_too(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n}.jpg" for n in range(6)))
    rows = [f"{n},{5 - n}.jpg,{one}" for n, one in enumerate(CLASSES)]
    place = table(tmp_path / "list.csv", "id,photo,kind", rows)
    assert [path for path, _, _ in read(place, tmp_path)] == [f"{5 - n}.jpg" for n in range(6)]


def test_two_files_that_differ_in_their_ending_are_not_chosen_between(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n}.jpg" for n in range(6)), "3.png")
    place = table(tmp_path / "list.csv", "id,kind", [f"{n},{one}" for n, one in enumerate(CLASSES)])
    with pytest.raises(DataError, match=r"3 may be any of \['3\.jpg', '3\.png'\]"):
        read(place, tmp_path)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("file,kind", "{n}.jpg,{one}"),
        ("file,kind,weight", "{n}.jpg,{one},{n}.5"),  # a measurement is no class
        ("file,kind,age", "{n}.jpg,{one},{third}.5"),
        ("file,kind,note", "{n}.jpg,{one},note {n}"),  # nor is what never repeats
        ("file,kind_id,kind", "{n}.jpg,{bit},{one}"),  # of a number and a name of the same, the name
        ("file,colour,class", "{n}.jpg,{third},{one}"),  # of several, the one called class
        ("file,kind,is_valid", "{n}.jpg,{one},False"),
        ("FILE, Label ,x", "{n}.jpg,{one},{third}"),
    ],
)
def test_the_column_that_could_be_the_label_is_it(tmp_path: Path, header: str, row: str) -> None:
    touch(tmp_path, *(f"{n}.jpg" for n in range(6)))
    rows = [row.format(n=n, one=one, bit=n % 2, third=n // 3) for n, one in enumerate(CLASSES)]
    found = read(table(tmp_path / "list.csv", header, rows), tmp_path)
    assert [label for _, label, _ in found] == CLASSES


def test_several_columns_that_could_be_the_label_are_named_and_none_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n}.jpg" for n in range(6)))
    rows = [f"{n}.jpg,{one},{'ab'[n // 3]}" for n, one in enumerate(CLASSES)]
    place = table(tmp_path / "list.csv", "file,animal,camera", rows)
    says = r"no column \['label'\], and \['animal', 'camera'\] could be the label: say it in ingest_data\."
    with pytest.raises(DataError, match=says):
        read(place, tmp_path)
    found = read(place, tmp_path, said(label="camera"))
    assert [label for _, label, _ in found] == list("aaabbb")


def test_fastai_s_flag_and_other_names_of_splits_are_the_split(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n}.jpg" for n in range(6)))
    rows = [f"{n}.jpg,{one},{n > 3}" for n, one in enumerate(CLASSES)]
    found = read(table(tmp_path / "list.csv", "fname,labels,is_valid", rows), tmp_path)
    assert [split for _, _, split in found] == ["train"] * 4 + ["val"] * 2
    rows = [f"{n}.jpg,{one},{'Test' if n > 3 else 'Train'}" for n, one in enumerate(CLASSES)]
    found = read(table(tmp_path / "list.csv", "fname,label,data set", rows), tmp_path)
    assert [split for _, _, split in found] == ["train"] * 4 + ["test"] * 2


def test_what_the_parameters_say_is_taken(tmp_path: Path) -> None:
    touch(tmp_path, *(f"x/{n}.jpg" for n in range(6)))
    rows = [f"{n},{n % 3},{one},train,{n // 2}" for n, one in enumerate(CLASSES)]
    place = table(tmp_path / "list.csv", "photo,label,kind,when,who", rows)
    names = said(path="photo", label="kind", split="when", group="who")
    _, found = read_layout(str(place), tmp_path, KINDS, names)
    assert found.to_dict("list") == {
        "path": [f"x/{n}.jpg" for n in range(6)],
        "label": CLASSES,
        "split": ["train"] * 6,
        "group": ["0", "0", "1", "1", "2", "2"],
    }


@pytest.mark.parametrize("key", ["path", "label", "split", "group"])
def test_a_column_that_the_parameters_name_and_the_table_has_not_is_refused(tmp_path: Path, key: str) -> None:
    place = table(tmp_path / "list.csv", "path,label", ["a.jpg,x"])
    says = rf"no column 'gone', which ingest_data\.columns\.{key} names; found \['path', 'label'\]"
    with pytest.raises(DataError, match=says):
        read(place, tmp_path, said(**{key: "gone"}))


def test_the_parameter_has_no_other_keys_and_a_list_of_labels_two_at_least() -> None:
    for wrong in ({"path": "a", "label": ["b"], "split": None, "group": None}, {"path": "a"}):
        with pytest.raises(ValidationError):
            Columns(**wrong)


# columns of 0 and 1


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_columns_of_0_and_1_are_one_label_where_every_row_has_one(tmp_path: Path, ending: str) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    columns = {"path": ["a.png", "b.png", "c.png"], "healthy": [1, 0, 0], "rust": [0, 1, 1]}
    place = tmp_path / f"list.{ending}"
    frame = pd.DataFrame(columns)
    frame.to_csv(place, index=False) if ending == "csv" else frame.to_parquet(place)
    assert read(place, tmp_path) == [
        ("a.png", "healthy", None),
        ("b.png", "rust", None),
        ("c.png", "rust", None),
    ]


def test_columns_of_0_and_1_are_label_sets_where_a_row_has_several_or_none(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    rows = ["a.png,1.0,1.0,0.0", "b.png,0.0,0.0,0.0", "c.png,0.0,0.0,1.0"]
    found = read(table(tmp_path / "list.csv", "image,rust,blight,scab", rows), tmp_path)
    assert found == [("a.png", "blight|rust", None), ("b.png", "", None), ("c.png", "scab", None)]


def test_columns_of_0_and_1_beside_others_are_said(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n}.png" for n in range(6)))
    rows = [f"{n}.png,{n % 2},{1 - n % 2},{'ab'[n // 3]}" for n in range(6)]
    place = table(tmp_path / "list.csv", "path,rust,healthy,camera", rows)
    with pytest.raises(DataError, match=r"\['camera', 'healthy', 'rust'\] could be the label"):
        read(place, tmp_path)
    found = read(place, tmp_path, said(label=["rust", "healthy"]))
    assert [label for _, label, _ in found] == ["healthy", "rust"] * 3


def test_a_cell_that_is_neither_0_nor_1_is_refused_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    place = table(tmp_path / "list.csv", "path,rust,scab", ["a.png,1,-1", "b.png,0,1"])
    with pytest.raises(DataError, match="column scab: found '-1' among 0 and 1"):
        read(place, tmp_path, said(label=["rust", "scab"]))


# what is watched for changes


def test_the_files_beside_a_table_are_watched_where_its_cells_are_no_paths(tmp_path: Path) -> None:
    touch(tmp_path, *(f"train/id{n}.jpg" for n in range(2)))
    place = table(tmp_path / "train.csv", "image_id,label", ["id0,a", "id1,b"])
    touch(tmp_path, "logs/x.log")
    watched = list_samples(str(place), tmp_path / "remote", KINDS)[1]
    assert watched == ["train.csv", "train/id0.jpg", "train/id1.jpg"]
    place = table(tmp_path / "list.csv", "path,label", ["train/id1.jpg,b"])
    assert list_samples(str(place), tmp_path / "remote", KINDS)[1] == ["list.csv", "train/id1.jpg"]


def test_of_a_table_whose_rows_are_the_samples_nothing_else_is_watched(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.jpg")
    place = table(tmp_path / "rows.csv", "x0,x1,x2,x3,label", ["1,2,3,4,a"])
    assert list_samples(str(place), tmp_path, Known(("tests.vectors",)))[1] == ["rows.csv"]


# what people have, and what would be read wrongly in silence


def test_a_table_without_names_in_its_first_line_loses_no_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, *(f"x/{n}.jpg" for n in range(6)))
    rows = [f"{n}.jpg,{one},1,1" for n, one in enumerate(CLASSES)]
    with caplog.at_level(logging.INFO):
        found = read(table(tmp_path / "list.csv", rows[0], rows[1:]), tmp_path)
    assert found == [(f"x/{n}.jpg", one, None) for n, one in enumerate(CLASSES)]
    assert caplog.messages[0].startswith(
        "list.csv (no names in the first line): path is column 1; label is column 2"
    )


def test_zeros_before_a_number_and_the_case_of_letters_are_no_difference(tmp_path: Path) -> None:
    touch(tmp_path, *(f"x/{n:03d}.PNG" for n in range(6)), *(f"y/IMG_{n}.JPG" for n in range(6)))
    place = table(tmp_path / "x.csv", "id,kind", [f"{n},{one}" for n, one in enumerate(CLASSES)])
    assert [path for path, _, _ in read(place, tmp_path)] == [f"x/{n:03d}.PNG" for n in range(6)]
    place = table(tmp_path / "y.csv", "file,kind", [f"img_{n}.jpg,{one}" for n, one in enumerate(CLASSES)])
    assert [path for path, _, _ in read(place, tmp_path)] == [f"y/IMG_{n}.JPG" for n in range(6)]


def test_two_files_that_differ_in_zeros_are_told_apart_by_their_whole_names(tmp_path: Path) -> None:
    touch(tmp_path, "7.png", "07.png", "8.png")
    place = table(tmp_path / "list.csv", "file,label", ["7.png,a", "07.png,b", "8.png,a"])
    assert [path for path, _, _ in read(place, tmp_path)] == ["7.png", "07.png", "8.png"]
    place = table(tmp_path / "list.csv", "file,label", ["7,a", "8,a"])
    with pytest.raises(DataError, match=r"7 may be any of \['07\.png', '7\.png'\]"):
        read(place, tmp_path)


def test_files_that_were_moved_into_another_folder_since_are_found(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{'test' if n > 3 else 'train'}/f{n}.jpg" for n in range(6)))
    place = table(tmp_path / "labels.csv", "name,kind", [f"f{n}.jpg,{one}" for n, one in enumerate(CLASSES)])
    assert [path[:5] for path, _, _ in read(place, tmp_path)] == ["train"] * 4 + ["test/"] * 2


@pytest.mark.parametrize("mark", [" ", ",", ";"])
def test_labels_that_look_like_several_are_told(
    tmp_path: Path, mark: str, caplog: pytest.LogCaptureFixture
) -> None:
    cells = [["clear"], ["clear", "road"], ["road"], ["clear", "haze"], ["haze", "road"], ["haze"]]
    rows = [f'{n}.png,"{mark.join(cell)}"' for n, cell in enumerate(cells)]
    touch(tmp_path, *(f"{n}.png" for n in range(6)))
    with caplog.at_level(logging.INFO):
        read(table(tmp_path / "list.csv", "path,label", rows), tmp_path)
    said = f"list.csv: {mark.join(cells[3])!r} is taken as one label; where it is several, write | instead of"
    assert [message.startswith(said) for message in caplog.messages] == [True]
    caplog.clear()
    rows = [f"{n}.png,{name}" for n, name in enumerate(["golden retriever", "fox terrier", "pug"] * 2)]
    with caplog.at_level(logging.INFO):
        read(table(tmp_path / "list.csv", "path,label", rows), tmp_path)
    assert caplog.messages == []


def test_a_table_that_holds_the_files_themselves_says_what_to_do(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": b"x", "path": "a.png"}, "label": n % 2} for n in range(4)]
    pd.DataFrame(rows).to_parquet(tmp_path / "set.parquet")
    with pytest.raises(
        DataError, match=r"expected one called path.*; image holds the samples themselves: write"
    ):
        read(tmp_path / "set.parquet", tmp_path)
