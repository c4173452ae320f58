"""A retraining is decided by what is new, what has moved and what has drifted since the champion."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from steps.artifacts.dataset import Dataset
from steps.artifacts.decision import Decision
from steps.artifacts.models import Classifier
from steps.artifacts.report import Report
from steps.artifacts.watch import Watch
from steps.core.audit.drift import REFERENCE_FILE, Reference, build_drift_reference
from steps.core.audit.known_samples import KNOWN, known_rows, with_prints
from steps.core.backbones.settings import BackboneConfig
from steps.core.modalities.image.pretrained import pretrained_preprocessing
from steps.core.system.errors import DataError, RegistryError
from steps.core.system.storage import table_bytes
from steps.runtime import mlflow_client, tracking
from steps.runtime.registry import Registry
from steps.runtime.review import Review
from steps.watch_data import WatchData, watch_data
from tests.clone import BACKBONE, CLASSES, write_images, write_weights
from tests.core.toys import IMAGE, image_encoder, image_network, modalities
from tests.steps.test_validate_data import gate
from tests.stores import use_store

SETTINGS = {
    "min_new_samples": 30, "min_drift_samples": 8, "samples": 40, "false_alarm_rate": 0.05,
    "permutations": 99, "name": None, "data": "images", "same_data": 0.5, "renamed": {}, "seed": 0,
}  # fmt: skip


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    use_store(tmp_path, monkeypatch)
    monkeypatch.setenv("HEADSTART_SCRATCH", str(tmp_path / "scratch"))
    write_images(tmp_path / "images", 20)
    return tmp_path / "images"


def backbone(images: Path) -> BackboneConfig:
    return BackboneConfig(name=BACKBONE, weights=str(images.parent / "w.safetensors"))


def watch(images: Path, dataset: Dataset, **changes: object) -> Watch:
    values = {**SETTINGS, "backbone": backbone(images), "modality": modalities(), **changes}
    with tracking.phase_run("look", "watch_data", {"seed": 0}, {}):
        return watch_data(dataset, WatchData.model_validate(values))


def crown(images: Path, dataset: Dataset, remembering: bool = True, data: str | None = None) -> None:
    """Make a champion of an untrained network, whose answers to the test images are what they are."""
    preprocessing = pretrained_preprocessing(BACKBONE, 32)
    network = image_network(BACKBONE, 3, 32, backbone(images).weights)
    meta = {
        "backbone": BACKBONE, "stages": len(network.stages), "labels": sorted(CLASSES),
        "modality": "image", "preprocessing": preprocessing.to_dict(), "temperature": 1.0,
    }  # fmt: skip
    files = {}
    if remembering:
        answers = ["blue"] * len(dataset.part("test"))  # a head of zeros answers the first class
        encoder = image_encoder(BACKBONE, Path(backbone(images).weights), preprocessing)
        about = (encoder, 40, images.parent / "scratch")
        files = build_drift_reference(dataset.root, dataset.table, answers, *about)
        own = with_prints(IMAGE, dataset.root, dataset.table, 1000, images.parent / "scratch")
        files[KNOWN] = table_bytes(known_rows(own, None))
    report = Report({"models": {}}, pd.DataFrame({"path": ["a"]}), "<p></p>")
    model = Classifier(network.state(), meta, [], {})
    with tracking.phase_run("first", "promote", {"seed": 0}, {}):
        review = Review(Decision.promoted, [], None, files=files)
        Registry("images", mlflow_client.connect(), data).register(model, report, review, "# card")


def add(images: Path, count: int, low: int, high: int) -> None:
    """Add pictures of the three classes whose noise lies between two levels."""
    generator = np.random.default_rng(99)
    for number, name in enumerate(CLASSES):
        for i in range(count):
            pixels = generator.integers(low, high, (40, 48, 3))
            pixels[..., 2 - number] += 90
            Image.fromarray(pixels.astype(np.uint8)).save(images / name / f"new-{i:03d}.png")


def test_without_a_champion_there_is_something_to_do(images: Path) -> None:
    found = watch(images, gate(images))
    assert (found.verdict, found.reasons) == ("retrain", ["there is no champion"])


def test_a_champion_that_remembers_nothing_is_a_reason(images: Path) -> None:
    dataset = gate(images)
    crown(images, dataset, remembering=False)
    assert watch(images, dataset).reasons == ["the champion has no record of its training data"]


def test_the_same_data_again_is_nothing_to_do(images: Path) -> None:
    dataset = gate(images)
    crown(images, dataset)
    found = watch(images, dataset)
    assert (found.verdict, found.counts, found.tests) == ("nothing to do", {"new": 0, "relabelled": 0}, [])
    assert found.champion == {"name": "images", "version": "1"}


def test_a_few_more_of_the_same_kind_are_no_reason_and_are_listed(images: Path) -> None:
    crown(images, gate(images))
    add(images, 6, 0, 160)
    dataset = gate(images)
    found = watch(images, dataset)
    assert found.reasons == []
    assert found.counts["new"] == 18 == len(found.newest)
    assert [row["drift"] for row in found.tests] == [False, False]
    assert set(found.newest) <= set(dataset.table["sha256"])


def test_enough_more_of_the_same_kind_are_a_reason(images: Path) -> None:
    crown(images, gate(images))
    add(images, 6, 0, 160)
    assert watch(images, gate(images), min_new_samples=18).reasons == ["18 new or relabelled samples"]


def test_pictures_of_another_kind_are_drift(images: Path) -> None:
    crown(images, gate(images))
    add(images, 6, 100, 165)
    (reason,) = watch(images, gate(images)).reasons
    assert reason.startswith("drift of z: p = 0.01")


def test_a_label_that_was_corrected_counts(images: Path, tmp_path: Path) -> None:
    crown(images, gate(images))
    corrections = tmp_path / "corrections.csv"
    corrections.write_text("path,label\nred/000.png,blue\n")
    found = watch(images, gate(images, corrections), min_new_samples=1)
    assert (found.reasons, found.counts["relabelled"]) == (["1 new or relabelled samples"], 1)


def test_a_sample_that_left_the_test_set_stops_everything(images: Path) -> None:
    dataset = gate(images)
    crown(images, dataset)
    moved = dataset.table.copy()
    row = moved.index[moved["split"] == "test"][0]
    moved.loc[row, "split"] = "train"
    table = Dataset(moved, dataset.root, dataset.overlooked, dataset.findings, dataset.suite)
    with pytest.raises(DataError, match="was test and is train; a test set must stay one"):
        watch(images, table)


def test_what_was_test_stays_test_whatever_is_added(images: Path) -> None:
    before = gate(images).table.set_index("sha256")["split"]
    add(images, 10, 0, 160)
    after = gate(images).table.set_index("sha256")["split"]
    assert len(after) == len(before) + 30
    assert (after[before.index] == before).all()


def test_too_few_permutations_for_the_level_are_refused() -> None:
    about = {"backbone": {"name": "x", "weights": "y"}, "modality": modalities()}
    with pytest.raises(ValueError, match="permutations of at least 400 for this level"):
        WatchData.model_validate({**SETTINGS, "false_alarm_rate": 0.005, **about})


def test_the_files_beside_the_model_name_every_sample_and_a_bounded_part_of_the_vectors(
    images: Path,
) -> None:
    dataset = gate(images)
    crown(images, dataset)
    registry, scratch = Registry("images", mlflow_client.connect()), images.parent / "scratch"
    known = pd.read_parquet(str(registry.fetch_kept_file("1", KNOWN, scratch)))
    assert set(known["sha256"]) == set(dataset.table["sha256"])
    reference = Reference.read(Path(str(registry.fetch_kept_file("1", REFERENCE_FILE, scratch))))
    assert len(reference.z) == min(40, len(dataset.part("train")))
    assert reference.predicted == {"blue": len(dataset.part("test"))}
    assert registry.fetch_kept_file("1", "nothing.json", scratch) is None


def paint(folder: Path, count: int, seed: int = 7) -> None:
    """Write noisy yellow pictures."""
    generator = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    for number in range(count):
        pixels = generator.integers(0, 160, (40, 48, 3))
        pixels[..., :2] += 90
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03d}.png")


def test_a_new_class_is_a_reason_and_its_pictures_are_answered_without_their_truth(images: Path) -> None:
    crown(images, gate(images))
    paint(images / "yellow", 20)
    found = watch(images, gate(images))
    assert found.reasons[0] == "other classes: yellow"
    assert found.counts["new"] == 20
    assert [row["test"] for row in found.tests] == ["z", "predicted labels"]


def test_a_class_that_is_gone_is_a_reason_and_one_with_another_name_is_none(images: Path) -> None:
    crown(images, gate(images))
    (images / "red").rename(images / "scarlet")
    dataset = gate(images)
    found = watch(images, dataset)
    assert found.reasons == ["other classes: red, scarlet"]
    assert found.counts == {"new": 0, "relabelled": 20}
    same = watch(images, dataset, renamed={"red": "scarlet"}, min_new_samples=1)
    assert (same.reasons, same.counts) == ([], {"new": 0, "relabelled": 0})


def test_a_champion_of_one_label_answers_pictures_of_label_sets(images: Path) -> None:
    dataset = gate(images)
    crown(images, dataset)
    add(images, 6, 0, 160)
    table = gate(images).table
    cells = table["label"].where(table["label"] != "red", "blue|red")
    sets = Dataset(table.assign(label=cells), dataset.root, {}, [], {}, label_sets=True)
    found = watch(images, sets)
    assert [row["test"] for row in found.tests] == ["z", "predicted labels"]
    assert found.counts["relabelled"] == 20


def test_a_champion_whose_files_are_gone_is_a_reason_and_stops_nothing(images: Path) -> None:
    dataset = gate(images)
    crown(images, dataset)
    assert watch(images, dataset).reasons == []
    source = Path(mlflow_client.connect().get_model_version_download_uri("images", "1"))
    source.rename(source.with_name("elsewhere"))
    assert watch(images, dataset).reasons == ["the champion's files are gone"]


def test_another_data_set_under_the_same_name_is_refused_before_anything_is_trained(
    images: Path, tmp_path: Path
) -> None:
    crown(images, gate(images), data=str(images))
    other = tmp_path / "plant" / "images"
    other.mkdir(parents=True)
    for number, name in enumerate(CLASSES):
        paint(other / name, 20, seed=number)
    write_weights(tmp_path / "plant" / "w.safetensors")
    dataset = gate(other)
    with pytest.raises(RegistryError, match=r"0 of 60 files are in common.*set promote.name"):
        watch(images, dataset, data=str(other))
    assert watch(images, dataset, data=str(other), name="plant").reasons == ["there is no champion"]


def test_a_sample_that_was_lent_to_a_split_may_go_back_when_a_new_one_takes_its_place(images: Path) -> None:
    dataset = gate(images)
    table = dataset.table.copy()
    red = table.index[(table["label"] == "red") & (table["split"] == "test")]
    table.loc[red[1:], "split"] = "train"

    def changed(rows: pd.DataFrame) -> Dataset:
        return Dataset(rows, dataset.root, dataset.overlooked, dataset.findings, dataset.suite)

    crown(images, changed(table))
    add(images, 1, 0, 160)
    new = gate(images).table
    new = new[~new["sha256"].isin(table["sha256"]) & (new["label"] == "red")].assign(split="test")
    back = table.assign(split=table["split"].where(table.index != red[0], "train"))
    found = watch(images, changed(pd.concat([back, new], ignore_index=True)))
    assert found.counts == {"new": 1, "relabelled": 0}
    with pytest.raises(DataError, match="was test and is train"):
        watch(images, changed(back))
    with pytest.raises(DataError, match="was test and is train"):
        watch(images, changed(pd.concat([back, new.assign(label="blue")], ignore_index=True)))
    held = table.assign(split=table["split"].mask(table.index == red[1], "test"))
    with pytest.raises(DataError, match="was train and is test"):
        watch(images, changed(pd.concat([held, new], ignore_index=True)))
