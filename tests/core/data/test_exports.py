"""What annotation tools export: labels of whole samples are read, boxes and outlines refused in words."""

import json
from pathlib import Path
from typing import Any

import pytest

from steps.core.data.layouts import read_layout
from steps.core.system.errors import DataError
from tests.core.data.test_layouts import touch
from tests.core.data.test_metadata import read
from tests.core.toys import KINDS


def export(tmp_path: Path, content: Any, name: str = "export.json") -> Path:
    place = tmp_path / name
    place.write_text(content if isinstance(content, str) else json.dumps(content))
    return place


def studio_task(image: str, *labels: str, **extra: Any) -> dict[str, Any]:
    result = (
        [{"type": "choices", "from_name": "choice", "value": {"choices": list(labels)}}] if labels else []
    )
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": result, **extra}]}


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/1/1b2c3d4e-{n}.jpg",
        "/data/local-files/?d=photos%2F{n}.jpg",
        "s3://bucket/set/photos/{n}.jpg",
        "https://host/photos/{n}.jpg?v=2",
    ],
)
def test_label_studio_s_choices_are_labels_wherever_it_kept_the_images(tmp_path: Path, image: str) -> None:
    touch(tmp_path, *(f"photos/{n}.jpg" for n in range(3)))
    tasks = [studio_task(image.format(n=n), "cat" if n else "dog") for n in range(3)]
    expected = [("photos/0.jpg", "dog", None), ("photos/1.jpg", "cat", None), ("photos/2.jpg", "cat", None)]
    assert read(export(tmp_path, tasks), tmp_path) == expected
    short = [
        {"image": image.format(n=n), "id": n, "choice": "cat" if n else "dog", "annotation_id": n}
        for n in range(3)
    ]
    assert read(export(tmp_path, short), tmp_path) == expected


def test_label_studio_s_several_choices_are_label_sets_and_what_nobody_answered_is_left_out(
    tmp_path: Path,
) -> None:
    touch(tmp_path, *(f"{n}.jpg" for n in range(4)))
    tasks = [
        studio_task("/data/upload/1/0.jpg", "rust", "scab"),
        studio_task("/data/upload/1/1.jpg", "rust"),
        studio_task("/data/upload/1/2.jpg"),
        studio_task("/data/upload/1/3.jpg", "rust", was_cancelled=True),
    ]
    assert read(export(tmp_path, tasks), tmp_path) == [("0.jpg", "rust|scab", None), ("1.jpg", "rust", None)]
    short = [
        {"image": "/data/upload/1/0.jpg", "choice": {"choices": ["rust", "scab"]}, "annotation_id": 1},
        {"image": "/data/upload/1/1.jpg", "choice": "rust", "annotation_id": 2},
    ]
    assert read(export(tmp_path, short), tmp_path) == [("0.jpg", "rust|scab", None), ("1.jpg", "rust", None)]


def test_a_list_of_rows_is_a_table(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.jpg", "x/b.jpg")
    rows = [{"file": "a.jpg", "label": "cat"}, {"file": "b.jpg", "label": "dog"}]
    assert read(export(tmp_path, rows), tmp_path) == [("x/a.jpg", "cat", None), ("x/b.jpg", "dog", None)]


COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
    "categories": [{"id": 1, "name": "rust"}, {"id": 2, "name": "scab"}],
    "annotations": [{"image_id": 7, "category_id": 2}, {"image_id": 8, "category_id": 1}],
}


def test_coco_s_categories_without_boxes_are_labels(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    assert read(export(tmp_path, COCO), tmp_path) == [("a.jpg", "scab", None), ("b.jpg", "rust", None)]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<image id="0" name="a.jpg" width="4" height="4"><tag label="rust" source="manual"/></image>
<image id="1" name="b.jpg" width="4" height="4"><tag label="scab"/>{more}</image>
<image id="2" name="c.jpg" width="4" height="4"></image></annotations>"""


def test_cvat_s_tags_are_labels(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/b.jpg", "images/c.jpg")
    place = export(tmp_path, CVAT.format(more=""), "annotations.xml")
    assert read(place, tmp_path) == [("images/a.jpg", "rust", None), ("images/b.jpg", "scab", None)]
    place = export(tmp_path, CVAT.format(more='<tag label="rust"/>'), "annotations.xml")
    assert read(place, tmp_path) == [("images/a.jpg", "rust", None), ("images/b.jpg", "rust|scab", None)]
    halves = (
        CVAT.format(more="")
        .replace('name="a', 'subset="Train" name="a')
        .replace('name="b', 'subset="Test" name="b')
    )
    found = read(export(tmp_path, halves, "annotations.xml"), tmp_path)
    assert found == [("images/a.jpg", "rust", "train"), ("images/b.jpg", "scab", "test")]


BOX = '<box label="rust" xtl="1" ytl="1" xbr="2" ybr="2"/>'
LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha">]><annotations>&b;</annotations>'
DRAWN = {**COCO, "annotations": [{"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4]}]}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", DRAWN, "COCO's, with 1 boxes or outlines in 2 images: .*Export it for classification"),
        ("a.xml", CVAT.replace("<tag", "<box").format(more=BOX), "CVAT's, with box: .*Export it for"),
        ("a.xml", LAUGHS, "declares entities"),
        ("a.xml", "<annotations>", "cannot be read"),
        ("a.xml", "<annotations></annotations>", "no sample with a label"),
        ("a.json", "{", "cannot be read"),
        ("a.json", "[" * 100_000, "cannot be read"),
        ("a.json", [], "no sample with a label"),
        ("a.json", {"shapes": []}, "no list of samples: expected an export of Label Studio or COCO"),
        ("a.json", [studio_task("/data/upload/1/0.jpg")], "no sample with a label"),
    ],
)  # fmt: skip
def test_an_export_that_says_no_label_is_refused_in_words(
    tmp_path: Path, name: str, content: Any, says: str
) -> None:
    touch(tmp_path, "a.jpg")
    with pytest.raises(DataError, match=rf"{name[0]}\.{name[2:]}.*{says}"):
        read(export(tmp_path, content, name), tmp_path)


def test_label_studio_s_boxes_are_refused(tmp_path: Path) -> None:
    task = studio_task("/data/upload/1/a.jpg")
    task["annotations"][0]["result"] = [{"type": "rectanglelabels", "value": {"rectanglelabels": ["x"]}}]
    with pytest.raises(DataError, match=r"Label Studio with \['rectanglelabels'\].*Choices"):
        read(export(tmp_path, [task]), tmp_path)


YOLO = "0 0.5 0.5 0.25 0.25\n2 0.1 0.2 0.3 0.4\n"
VOC = "<annotation><object><name>x</name><bndbox><xmin>1</xmin></bndbox></object></annotation>"
FOLDERS = {
    "Roboflow's COCO": (["train/a.jpg"], {"train/_annotations.coco.json": "{}"}, "COCO"),
    "COCO's own": (["images/a.jpg"], {"annotations/instances_train2017.json": "{}"}, "COCO"),
    "Roboflow's table": (["train/a.jpg"], {"train/_annotations.csv": "filename,class\n"}, "a table"),
    "Roboflow's text": (["train/a.jpg"], {"train/_annotations.txt": "a.jpg 1,2,3,4,0\n"}, "a text"),
    "CreateML": (["train/a.jpg"], {"train/_annotations.createml.json": "[]"}, "CreateML"),
    "YOLO, with folders": (["train/images/a.jpg"], {"train/labels/a.txt": YOLO}, "YOLO"),
    "YOLO, beside": (["x/a.jpg", "y/b.jpg"], {"x/a.txt": YOLO, "y/b.txt": ""}, "YOLO"),
    "YOLO, outlines": (["images/train/a.jpg"], {"labels/train/a.txt": "0 0.1 0.2 0.3 0.4 0.5 0.6\n"}, "YOLO"),
    "Pascal VOC": (["x/a.jpg"], {"x/a.xml": VOC}, "Pascal VOC"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_boxes_is_refused_once_with_what_to_do(tmp_path: Path, kind: str) -> None:
    samples, notes, says = FOLDERS[kind]
    touch(tmp_path, *samples)
    for path, text in notes.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    with pytest.raises(
        DataError, match=rf"data set of boxes or outlines \(.*{says}.*Export it for classification"
    ):
        read_layout(str(tmp_path), tmp_path / "remote", KINDS)


def test_captions_beside_images_are_no_boxes(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.jpg", "dog/b.jpg")
    (tmp_path / "cat/a.txt").write_text("a cat on a mat, 3 years old\n")
    (tmp_path / "dog/b.txt").write_text("7 dogs\n")
    assert read(tmp_path, tmp_path) == [("cat/a.jpg", "cat", None), ("dog/b.jpg", "dog", None)]


def test_roboflow_s_folders_of_classes_are_read(tmp_path: Path) -> None:
    touch(tmp_path, "train/rust/a.jpg", "valid/rust/b.jpg", "test/scab/c.jpg", "README.dataset.txt")
    assert [row[1:] for row in read(tmp_path, tmp_path)] == [
        ("scab", "test"),
        ("rust", "train"),
        ("rust", "val"),
    ]
