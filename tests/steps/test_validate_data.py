"""The gate lets good data through, keeps bad files out, and stops at bad data sets."""

from pathlib import Path

import pytest

from steps.artifacts import Dataset
from steps.core.errors import DataRejected
from steps.ingest_data import IngestData, Splits, ingest_data
from steps.validate_data import ValidateData, validate_data
from tests.clone import write_images

SPLITS = Splits(train=0.6, val=0.2, test=0.2)


def gate(folder: Path, **changes: object) -> Dataset:
    limits = {
        "formats": ["PNG"],
        "labels": None,
        "min_side": 8,
        "max_side": 1000,
        "min_per_class": 2,
        "max_unreadable": 0.1,
        "split_tolerance": 0.2,
        "duplicates": "warn",
        "splits": SPLITS,
    }
    manifest = ingest_data(IngestData(path=str(folder), splits=SPLITS, seed=0))
    return validate_data(manifest, ValidateData.model_validate({**limits, **changes}))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 20)
    return tmp_path / "images"


def test_good_data_passes_every_check_and_comes_out_whole(images: Path) -> None:
    dataset = gate(images)
    assert len(dataset.table) == 60
    assert {finding["verdict"] for finding in dataset.findings} == {"pass"}


def test_broken_files_are_left_out_with_a_reason_and_the_run_goes_on(images: Path) -> None:
    truncated, empty = images / "red/000.png", images / "blue/001.png"
    truncated.write_bytes(truncated.read_bytes()[:200])
    empty.write_bytes(b"")
    dataset = gate(images)
    removed = {row["path"]: row["reason"] for row in dataset.findings[0]["quarantined"]}
    assert set(removed) == {"red/000.png", "blue/001.png"}
    assert "cannot be decoded" in removed["red/000.png"]
    assert "not a readable image" in removed["blue/001.png"]
    assert not set(removed) & set(dataset.table["path"])
    assert truncated.exists(), "nothing is removed from the user's folder"
    assert dataset.headline()["quarantined"] == 2


def test_too_many_broken_files_stop_the_pipeline_and_are_listed(images: Path) -> None:
    for number in range(8):
        (images / f"red/{number:03d}.png").write_bytes(b"")
    with pytest.raises(DataRejected, match=r"(?s)images can be read.*red/00.*max_unreadable"):
        gate(images)


def test_every_critical_failure_is_in_the_list_not_only_the_first(images: Path) -> None:
    with pytest.raises(DataRejected) as caught:
        gate(images, formats=["JPEG"], labels=["red", "green"])
    assert "2 critical check(s) failed; nothing was trained" in str(caught.value)
    assert "file formats are allowed ones" in str(caught.value)
    assert "labels are in the list" in str(caught.value)


def test_duplicates_are_a_warning_or_a_failure_as_the_params_say(images: Path) -> None:
    (images / "red/copy.png").write_bytes((images / "red/000.png").read_bytes())
    finding = next(f for f in gate(images).findings if f["check"] == "every content occurs once")
    assert finding["verdict"] == "warn"
    assert set(finding["files"]) == {"red/000.png", "red/copy.png"}
    with pytest.raises(DataRejected, match="every content occurs once"):
        gate(images, duplicates="fail")


def test_a_class_without_training_samples_stops_and_one_without_test_samples_warns(images: Path) -> None:
    paths = sorted(path.relative_to(images) for path in images.glob("*/*.png"))
    for bad, verdict in (("train", "fail"), ("test", "warn")):
        other = {"train": "val", "test": "train"}[bad]
        splits = ["train", "train", "val", "test"]
        rows = []
        for i, path in enumerate(paths):
            split = splits[i % 4]
            moved = path.parent.name == "red" and split == bad
            rows.append(f"{path},{path.parent},{other if moved else split}")
        (images / "list.csv").write_text("path,label,split\n" + "\n".join(rows))
        if verdict == "fail":
            with pytest.raises(DataRejected, match=r"every class has samples in train \(1 of 3\): red"):
                gate(images / "list.csv")
        else:
            findings = gate(images / "list.csv").findings
            assert [f["files"] for f in findings if f["verdict"] == "warn"] == [["red"]]


def test_one_class_is_not_enough(images: Path) -> None:
    (images / "list.csv").write_text("path,label\n" + "\n".join(f"red/{i:03d}.png,red" for i in range(20)))
    with pytest.raises(DataRejected, match="there are classes enough"):
        gate(images / "list.csv")
