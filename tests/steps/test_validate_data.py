"""The gate lets good data through, keeps bad files out, and stops at bad data sets."""

from pathlib import Path

import pytest
from PIL import Image

from steps.artifacts.dataset import Dataset
from steps.core.backbones.settings import BackboneConfig
from steps.core.system.errors import DataError, DataRejected
from steps.ingest_data import IngestData, Splits, ingest_data
from steps.validate_data import ValidateData, validate_data
from tests.clone import BACKBONE, ROOT, write_images, write_weights
from tests.core.audit.test_limits import GOOD
from tests.core.toys import modalities

SPLITS = Splits(train=0.6, val=0.2, test=0.2)


def gate(folder: Path, corrections: Path = ROOT / "corrections.csv", **changes: object) -> Dataset:
    limits = {
        **GOOD,
        "suite": str(ROOT / "expectations.json"),
        "min_per_class": 2,
        "split_tolerance": 0.2,
        "splits": SPLITS,
        "backbone": BackboneConfig(name=BACKBONE, weights=str(folder.parent / "w.safetensors")),
        "modality": modalities(max_side=1000),
        "seed": 0,
    }
    write_weights(folder.parent / "w.safetensors")
    found = {"path": str(folder), "columns": None, "max_unknown_formats": 0.05, "seed": 0}
    about = {"corrections": str(corrections), "splits": SPLITS, "modality": modalities()}
    manifest = ingest_data(IngestData.model_validate({**found, **about}))
    return validate_data(manifest, ValidateData.model_validate({**limits, **changes}))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", 20)
    return tmp_path / "images"


def test_good_data_passes_every_check_and_comes_out_whole(images: Path) -> None:
    dataset = gate(images)
    assert len(dataset.table) == 60
    assert {finding["verdict"] for finding in dataset.findings} == {"pass"}
    assert dataset.verdict == "pass"
    assert dataset.suspects.splitlines() == ["path,label,suggested,self_confidence"]
    assert "http" not in dataset.html.replace("http://www.w3.org", ""), "the page opens offline"


def test_a_picture_longer_than_max_side_is_left_out_and_the_run_goes_on(images: Path) -> None:
    Image.new("RGB", (1001, 9)).save(images / "red/long.png")
    dataset = gate(images)
    reasons = {row["path"]: row["reason"] for row in dataset.findings[0]["quarantined"]}
    assert reasons == {"red/long.png": "1001 x 9 pixels, longer than modality.image.max_side (1000)"}
    assert "red/long.png" not in set(dataset.table["path"])


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
    with pytest.raises(DataRejected, match=r"(?s)samples can be read.*red/00.*max_unreadable"):
        gate(images)


def test_every_critical_failure_is_in_the_list_not_only_the_first(images: Path) -> None:
    with pytest.raises(DataRejected) as caught:
        gate(images, modality=modalities(formats=["JPEG"]), labels=["red", "green"])
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


def leaky(images: Path) -> Path:
    """Put copies of three training pictures into the test split of a manifest, recompressed or not."""
    rows = []
    for path in sorted(images.glob("*/*.png")):
        number = int(path.stem)
        split = "train" if number < 12 else "val" if number < 15 else "test"
        rows.append((f"{path.parent.name}/{path.name}", path.parent.name, split))
    for number in range(3):
        (images / f"red/9{number}.png").write_bytes((images / f"red/{number:03d}.png").read_bytes())
        rows.append((f"red/9{number}.png", "red", "test"))
    text = "\n".join(",".join(row) for row in rows)
    (images / "list.csv").write_text(f"path,label,split\n{text}")
    return images / "list.csv"


def test_copies_across_splits_stop_the_pipeline_with_files_and_remedy(images: Path) -> None:
    with pytest.raises(DataRejected) as caught:
        gate(leaky(images))
    text = str(caught.value)
    assert "no exact copy lies in two splits (3 of 27): red/90.png, red/91.png, red/92.png" in text
    assert "set validate_data.repair to true" in text
    page = Path(text.rpartition("shown in ")[2])
    assert "red/90.png | red/000.png" in page.read_text()


def test_a_repair_leaves_out_the_twins_in_train_and_the_rest_is_clean(images: Path) -> None:
    manifest = leaky(images)
    write_weights(images / "w.safetensors")
    before = {path: path.read_bytes() for path in images.rglob("*") if path.is_file()}
    dataset = gate(manifest, repair=True)
    assert {path: path.read_bytes() for path in images.rglob("*") if path.is_file()} == before
    gone = {f"red/{number:03d}.png" for number in range(3)}
    assert len(dataset.table) == 60
    assert not gone & set(dataset.table["path"])
    found = next(f for f in dataset.findings if f["check"] == "no exact copy lies in two splits")
    assert {row["path"] for row in found["repair"]} == gone
    assert (found["verdict"], found["remedy"]) == ("warn", "done: the files were left out")
    assert "the leak inflates accuracy by" in dataset.html
    assert not dataset.table["sha256"].duplicated().any()


def test_one_picture_under_two_labels_stops_the_pipeline_and_a_repair_drops_both(images: Path) -> None:
    (images / "green/twin.png").write_bytes((images / "red/000.png").read_bytes())
    with pytest.raises(
        DataRejected, match=r"no exact copy has another label .*: green/twin.png, red/000.png"
    ):
        gate(images)
    kept = set(gate(images, repair=True).table["path"])
    assert not kept & {"green/twin.png", "red/000.png"}


def test_a_corrected_label_is_applied_and_recorded(images: Path, tmp_path: Path) -> None:
    (images / "green/twin.png").write_bytes((images / "red/000.png").read_bytes())
    (tmp_path / "mine.csv").write_text("path,label\ngreen/twin.png,red\n")
    dataset = gate(images, corrections=tmp_path / "mine.csv")
    row = dataset.table.set_index("path").loc["green/twin.png"]
    assert (row["label"], row["corrected_from"]) == ("red", "green")
    found = next(f for f in dataset.findings if f["check"] == "labels corrected by hand are applied")
    assert found["values"] == ["green -> red"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("path,label\nred/nowhere.png,red\n", r"names files that do not exist: \['red/nowhere.png'\]"),
        ("file,label\nred/000.png,red\n", "needs the columns path and label"),
        (None, "cannot be read"),
    ],
)
def test_corrections_that_fit_nothing_are_refused(
    images: Path, tmp_path: Path, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "mine.csv").write_text(content)
    with pytest.raises(DataError, match=f"(?s)ingest_data.corrections.*{says}"):
        gate(images, corrections=tmp_path / "mine.csv")


def test_what_lies_aside_in_the_folder_is_named(images: Path, tmp_path: Path) -> None:
    (images / ".DS_Store").write_bytes(b"x")
    (images / "red/notes.txt").write_text("x")
    (images / "violet").mkdir()
    (tmp_path / "elsewhere.png").write_bytes((images / "red/000.png").read_bytes()[:-20])
    (images / "blue/link.png").symlink_to(tmp_path / "elsewhere.png")
    findings = {f["check"]: f for f in gate(images).findings}
    named = {name.removeprefix("no file is ignored: "): f["files"] for name, f in findings.items()}
    assert named["hidden"] == [".DS_Store"]
    assert named["no sample"] == ["red/notes.txt"]
    assert named["empty folder"] == ["violet"]
    assert named["link out"] == ["blue/link.png"]
    assert findings["no sample had to be left out"]["files"] == ["blue/link.png"]


def test_missing_files_are_never_called_unreadable_images(images: Path) -> None:
    files = sorted(images.glob("*/*.png"))
    rows = [f"{path.parent.name}\\{path.name},{path.parent.name}" for path in files]
    (images / "list.csv").write_text("\n".join(["path,label", *rows]))
    assert set(gate(images / "list.csv").table["path"]) == {
        f"{path.parent.name}/{path.name}" for path in files
    }
    rows = [row.replace("\\", "\\gone\\") for row in rows]
    (images / "list.csv").write_text("\n".join(["path,label", *rows]))
    with pytest.raises(DataRejected) as caught:
        gate(images / "list.csv")
    said = str(caught.value)
    assert f"failed: files that the data set names are there ({len(files)} of {len(files)})" in said
    assert "correct the paths in the table" in said
    assert "samples can be read" not in said
