"""Whether a retraining may go on from the champion: not where that has seen what is held out now."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from steps.artifacts.dataset import Dataset
from steps.artifacts.features import Features
from steps.artifacts.watch import Watch
from steps.runtime import mlflow_client
from steps.runtime.phase import all_configs
from steps.runtime.registry import Registry
from steps.warm_start import WarmStart, champion_network, has_seen_held_out
from tests.clone import ROOT
from tests.core.toys import modalities
from tests.steps.test_validate_data import gate
from tests.steps.test_watch_data import crown, images

__all__ = ["images"]


def config(**changes: Any) -> WarmStart:
    settings = all_configs(ROOT / "params.yaml")["warm_start"].model_dump()
    return WarmStart.model_validate({**settings, **changes})


def features(dataset: Dataset) -> Features:
    meta = {"root": dataset.root, "boundary": 0, "modality": "image"}
    return Features(dataset.table[["sha256", "path", "split", "label"]], {}, meta)


def registry() -> Registry:
    return Registry("images", mlflow_client.connect())


def with_moved(dataset: Dataset, before: str, after: str, count: int) -> Dataset:
    """Put samples into another split."""
    table = dataset.table.copy()
    table.loc[table.index[table["split"] == before][:count], "split"] = after
    return Dataset(table, dataset.root, dataset.overlooked, dataset.findings, dataset.suite)


def test_the_same_splits_again_are_gone_on_from(images: Path) -> None:
    dataset = gate(images)
    crown(images, dataset)
    assert not has_seen_held_out(registry(), "1", features(dataset), config())


@pytest.mark.parametrize(("before", "after"), [("train", "val"), ("train", "test"), ("val", "test")])
def test_a_champion_that_knows_what_is_held_out_is_not_gone_on_from(
    images: Path, before: str, after: str, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = gate(images)
    crown(images, dataset)
    moved = features(with_moved(dataset, before, after, 5))
    assert has_seen_held_out(registry(), "1", moved, config())
    assert "has learnt from 5 of the" in caplog.text
    assert not has_seen_held_out(registry(), "1", moved, config(max_leaked=0.5)), "so many may leak"


def test_pictures_that_were_saved_again_do_not_slip_through(images: Path) -> None:
    dataset = gate(images)
    crown(images, dataset)
    table = dataset.table.copy()
    for path in table["path"][table["split"] == "train"][:5]:
        with Image.open(images / path) as image:
            copy = images / path.replace(".png", "-again.jpg")
            image.save(copy, quality=95)
        (images / path).unlink()
    again = gate(images, modality=modalities(formats=["PNG", "JPEG"]))
    held = again.table["split"].where(~again.table["path"].str.endswith("-again.jpg"), "test")
    moved = Dataset(again.table.assign(split=held), again.root, {}, [], {})
    assert has_seen_held_out(registry(), "1", features(moved), config())


def test_a_champion_that_keeps_no_record_or_no_files_is_not_gone_on_from(images: Path) -> None:
    dataset = gate(images)
    crown(images, dataset, remembering=False)
    assert has_seen_held_out(registry(), "1", features(dataset), config())
    shutil.rmtree(Path(mlflow_client.connect().get_model_version_download_uri("images", "1")))
    watch = Watch(["a reason"], {"name": "images", "version": "1"})
    nobody: Any = None
    assert champion_network(features(dataset), nobody, watch, config()) is None
