import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from steps.artifacts.dataset import Dataset, Manifest
from steps.artifacts.decision import Decision
from steps.artifacts.features import Features
from steps.artifacts.learning_rates import LearningRates
from steps.artifacts.models import Classifier, Student
from steps.artifacts.report import Report
from steps.artifacts.stats import Stats
from steps.core.modalities.image.pixels import Preprocessing
from steps.core.system.errors import ArtifactError
from steps.core.system.storage import Artifact, table_bytes
from tests.core.toys import LABELS, PREPROCESSING, Pictures, build, draw_pictures, encode, picture
from tests.core.toys import described as describe_table

META: dict[str, Any] = {
    "backbone": "test_resnet",
    "stages": 5,
    "labels": LABELS,
    "modality": "image",
    "preprocessing": PREPROCESSING.to_dict(),
    "temperature": 1.25,
}
FINDING = {"check": "a", "verdict": "warn", "quarantined": [{"path": "x", "reason": "broken"}]}


def described(pictures: Pictures) -> pd.DataFrame:
    table = pictures.table[["path", "label", "split"]].assign(group=None)
    return describe_table(pictures.folder(), table)


def manifest(pictures: Pictures, folder: Path) -> Manifest:
    return Manifest(described(pictures), "some/whäre", {"hidden": [".DS_Störe"]})


def manifest_with_a_broken_file(pictures: Pictures, folder: Path) -> Manifest:
    broken = draw_pictures(folder / "broken", {"train": 1})
    (broken.root / "train/red/0.png").write_bytes(b"no image")
    table = broken.table[["path", "label", "split"]].assign(group=None)
    return Manifest(describe_table(broken.folder(), table), "some/where", {})


def dataset(pictures: Pictures, folder: Path) -> Dataset:
    suite = {"samples": [{"type": "x"}]}
    return Dataset(described(pictures), "data", {}, [FINDING], suite, "<p>ü</p>", "path,label\n")


def stats(pictures: Pictures, folder: Path) -> Stats:
    moments = {"mean": [0.1, 0.2, 1 / 3], "std": [0.3, 0.4, 2 / 3]}
    return Stats(
        moments,
        moments,
        "dataset",
        12345,
        PREPROCESSING.to_dict(),
        {"ways": {"image": {"gain": {"value": 0.1}}}},
    )


def features(pictures: Pictures, folder: Path) -> Features:
    folder.mkdir(parents=True)
    save_file({"z": torch.arange(6.0).view(3, 2, 1)}, folder / "key-of-the-shard.safetensors")
    table = pictures.index().head(3).assign(shard="train-00000.safetensors", row=range(3))
    meta = {"views": 1, "boundary": 3, "stages": 5, "weights_sha256": "ab", "bytes_per_view": 4}
    meta |= {"symmetries": {"horizontal_flip": {"kept": True, "samples": 9}}}
    return Features(table, {"train-00000.safetensors": folder / "key-of-the-shard.safetensors"}, meta)


def classifier(pictures: Pictures, folder: Path) -> Classifier:
    history = [{"epoch": 1, "val_loss": 0.1 + 0.2}]
    return Classifier(build("test_resnet").state(), META, history, {"val_accuracy": 0.75})


def student(pictures: Pictures, folder: Path) -> Student:
    one = classifier(pictures, folder)
    names = ("hard_labels", "frozen")
    controls = {
        name: replace(one, metrics={"val_loss": n / 3}, state=build("test_resnet", keep=n).state())
        for n, name in enumerate(names, 1)
    }
    choice = {"chosen": "first 2 stages", "candidates": [{"name": "first 2 stages", "val_loss": 1 / 3}]}
    figures = {"first 2 stages": {"latency_p50_ms": 1 / 3, "megabytes": 0.25}}
    return Student(one.state, one.meta, one.history, one.metrics, controls, choice, figures)


def learning_rates(pictures: Pictures, folder: Path) -> LearningRates:
    trials = [{"study": "uniform", "head_lr": 1e-3, "ratio": 1.0, "val_loss": None, "pruned": True}]
    summary = {
        "trials": 1,
        "pruned": 1,
        "finalists": [{"val_loss": 0.25}],
        "comparison": None,
    }
    return LearningRates(1e-3 / 3, 0.7, 0.01, trials, summary, "<html>\n</html>")


def learning_rates_with_a_soup(pictures: Pictures, folder: Path) -> LearningRates:
    plain = learning_rates(pictures, folder)
    summary = {**plain.summary, "comparison": {"verdict": "better"}}
    return replace(plain, ratio=[0.5, 1 / 3], summary=summary, soup={"head.weight": torch.ones(2, 3) / 3})


def rates_that_were_not_searched(pictures: Pictures, folder: Path) -> LearningRates:
    return LearningRates(1e-3, 0.6, 0.01, [], {"skipped": "too few"}, "<html>\n</html>")


def report(pictures: Pictures, folder: Path) -> Report:
    models = {"finetuned": {"accuracy": {"value": 0.9, "low": 0.8, "high": 1.0}}}
    gain = {"accuracy": {"value": 0.1, "low": -0.05, "high": 0.2}}
    table = pd.DataFrame({"path": ["a", "b"], "label": ["x", "y"], "finetuned_confidence": [0.5, 0.7]})
    return Report({"models": models, "gain": gain}, table, "<html>\n<p>ünï</p>\n</html>")


def decision(pictures: Pictures, folder: Path) -> Decision:
    return Decision("promoted", [{"gate": "a", "passed": True}, {"gate": "b", "passed": False}], {"v": 1})


KINDS: list[Callable[[Pictures, Path], Artifact]] = [
    manifest,
    manifest_with_a_broken_file,
    dataset,
    stats,
    features,
    classifier,
    student,
    learning_rates,
    learning_rates_with_a_soup,
    rates_that_were_not_searched,
    report,
    decision,
]


def values_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): None if v != v else v for k, v in row.items()} for row in table.to_dict("records")]


def equal(one: object, other: object) -> bool:
    if isinstance(one, pd.DataFrame) and isinstance(other, pd.DataFrame):
        return one.columns.equals(other.columns) and values_of(one) == values_of(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return set(one) == set(other) and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, Artifact) and isinstance(other, Artifact):
        return one.digest == other.digest
    if isinstance(one, Path) and isinstance(other, Path):
        return one.read_bytes() == other.read_bytes()
    return one == other


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_every_field_comes_back_as_it_was(
    pictures: Pictures, tmp_path: Path, make: Callable[[Pictures, Path], Artifact]
) -> None:
    artifact = make(pictures, tmp_path / "sources")
    artifact.save(tmp_path / "saved")
    loaded = type(artifact).load(tmp_path / "saved")
    for field in fields(artifact):  # type: ignore[arg-type]
        assert equal(getattr(artifact, field.name), getattr(loaded, field.name)), field.name
    assert loaded.digest == artifact.digest
    assert loaded.headline() == artifact.headline()
    assert loaded.lineage() == artifact.lineage()


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_what_was_loaded_can_be_saved_elsewhere_and_loaded_again(
    pictures: Pictures, tmp_path: Path, make: Callable[[Pictures, Path], Artifact]
) -> None:
    artifact = make(pictures, tmp_path / "sources")
    artifact.save(tmp_path / "one")
    type(artifact).load(tmp_path / "one").save(tmp_path / "two")
    assert type(artifact).load(tmp_path / "two").digest == artifact.digest


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_the_same_content_made_twice_has_the_same_digest(
    pictures: Pictures, tmp_path: Path, make: Callable[[Pictures, Path], Artifact]
) -> None:
    assert make(pictures, tmp_path / "a").digest == make(pictures, tmp_path / "b").digest


def test_no_artifact_is_taken_for_another_kind(pictures: Pictures, tmp_path: Path) -> None:
    dataset(pictures, tmp_path / "sources").save(tmp_path / "dataset")
    with pytest.raises(ArtifactError, match="holds Dataset version 1, expected Manifest"):
        Manifest.load(tmp_path / "dataset")


def test_a_table_is_the_same_bytes_every_time() -> None:
    table = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    assert table_bytes(table) == table_bytes(table.copy())


def test_a_manifest_counts_samples_classes_and_splits(pictures: Pictures, tmp_path: Path) -> None:
    found = manifest(pictures, tmp_path / "sources")
    expected = {"samples": 27, "classes": 3, "train": 12, "val": 9, "test": 6}
    assert found.headline() == expected
    assert len(found.part("val")) == 9


def test_a_dataset_numbers_its_classes_in_alphabetical_order(pictures: Pictures, tmp_path: Path) -> None:
    found = dataset(pictures, tmp_path / "sources")
    assert found.labels == LABELS
    assert found.lineage() == {"data_digest": found.digest}
    assert (found.headline()["quarantined"], found.headline()["warnings"]) == (1, 1)


def test_the_preprocessing_survives_the_stats(pictures: Pictures, tmp_path: Path) -> None:
    assert Preprocessing.from_dict(stats(pictures, tmp_path).preprocessing) == PREPROCESSING


def test_a_loaded_classifier_gives_the_logits_of_the_network_it_was_made_from(tmp_path: Path) -> None:
    network = build("test_resnet")
    Classifier(network.state(), META, [], {}).save(tmp_path / "model")
    loaded = Classifier.load(tmp_path / "model")
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded.network()(x), network(x))
    assert loaded.preprocessing == PREPROCESSING


def test_what_a_clock_said_is_kept_beside_a_student_and_changes_no_digest(
    pictures: Pictures, tmp_path: Path
) -> None:
    one = student(pictures, tmp_path)
    other = replace(one, figures={"first 2 stages": {"latency_p50_ms": 7.0, "megabytes": 0.25}})
    assert other.digest == one.digest
    other.save(tmp_path / "saved")
    assert Student.load(tmp_path / "saved").figures == other.figures
    assert replace(one, choice={**one.choice, "chosen": "another"}).digest != one.digest


def test_a_student_alone_is_a_classifier_that_production_can_load(pictures: Pictures, tmp_path: Path) -> None:
    one = student(pictures, tmp_path)
    one.without_controls().save(tmp_path / "saved")
    loaded = Classifier.load(tmp_path / "saved")
    assert loaded.digest == one.without_controls().digest != one.digest
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {
        "artifact.json", "model.safetensors", "classifier.json", "history.json", "metrics.json",
    }  # fmt: skip


def test_the_logits_in_a_report_come_back_bit_for_bit(pictures: Pictures, tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3))
    made = report(pictures, tmp_path)
    kept = replace(made, predictions=made.predictions.assign(finetuned_logits=list(logits)))
    kept.save(tmp_path / "saved")
    back = Report.load(tmp_path / "saved").predictions["finetuned_logits"]
    assert np.array_equal(np.stack(back.tolist()), logits)


def test_a_classifier_with_weights_of_another_backbone_is_refused(tmp_path: Path) -> None:
    wrong = Classifier(build("test_efficientnet").state(), META, [], {})
    with pytest.raises(ArtifactError, match="weights of another architecture"):
        wrong.network()


def test_a_decision_tells_how_many_gates_were_passed(pictures: Pictures, tmp_path: Path) -> None:
    assert decision(pictures, tmp_path).headline() == {"verdict": "promoted", "gates": "1/2"}


def test_a_shard_is_linked_into_the_artifact_and_not_copied(pictures: Pictures, tmp_path: Path) -> None:
    found = features(pictures, tmp_path / "sources")
    found.save(tmp_path / "saved")
    (source,) = found.shards.values()
    assert (tmp_path / "saved/train-00000.safetensors").samefile(source)
    assert found.headline()["boundary"] == "3 of 5"


def test_a_picture_that_is_drawn_twice_is_the_same() -> None:
    assert encode(picture(3)) == encode(picture(3))
    assert not np.array_equal(picture(3), picture(4))


def test_a_manifest_remembers_that_its_labels_are_sets_and_one_of_single_labels_is_stored_as_ever(
    tmp_path: Path,
) -> None:
    table = pd.DataFrame({"path": ["a", "b"], "label": ["x|y", ""], "split": ["train", "val"]})
    single, sets = Manifest(table, "r", {}), Manifest(table, "r", {}, label_sets=True)
    sets.save(tmp_path / "m")
    again = Manifest.load(tmp_path / "m")
    assert again.label_sets
    assert again.digest == sets.digest != single.digest
    assert json.loads(single.files()["root.json"]) == {"root": "r", "overlooked": {}, "modality": "image"}
    assert (sets.headline()["classes"], sets.headline()["labels_per_sample"]) == (2, 1.0)
    dataset = Dataset(table, "r", {}, [], {}, "", "", label_sets=True)
    dataset.save(tmp_path / "d")
    assert Dataset.load(tmp_path / "d").labels == ["x", "y"]


def test_dvc_sees_each_label_of_a_set_hit_missed_or_invented() -> None:
    table = pd.DataFrame({"path": ["a", "b"], "label": ["x|y", ""], "finetuned": ["y|z", ""]})
    rows = Report({"models": {}, "main": "map"}, table, "").answers()
    assert rows == [
        {"label": "x", "predicted": "none"}, {"label": "y", "predicted": "y"},
        {"label": "none", "predicted": "z"},
    ]  # fmt: skip
