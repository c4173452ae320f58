"""A training that was stopped between two epochs goes on as if nothing had been."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from steps.core.backbones.network import Network
from steps.core.training import checkpoint
from steps.core.training.checkpoint import Checkpoint
from steps.core.training.loop import Epoch, Trained, train
from steps.core.training.objectives import Classify
from steps.core.training.parameter_groups import parameter_groups
from tests.core.toys import RECIPE, Pictures, build, cached, same_state
from tests.core.toys import batches as walk


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write after every epoch, however short."""
    monkeypatch.setattr(checkpoint, "SYNC_SECONDS", 0.0)


def start(
    pictures: Pictures, folder: Path, name: str, boundary: int, **changes: Any
) -> tuple[Network, Any, Any]:
    network = build(name)
    source = cached(pictures, network, boundary, folder)
    network.freeze(boundary)
    recipe = RECIPE.model_copy(update={"epochs": 5, "patience": 5, **changes})
    return network, walk(source, source.index, recipe.batch_size), recipe


def run(
    pictures: Pictures,
    folder: Path,
    file: Path | None,
    die_at: int | None = None,
    name: str = "test_efficientnet",
    boundary: int = 3,
    **changes: Any,
) -> tuple[Trained, list[int]]:
    network, opened, recipe = start(pictures, folder / "cache", name, boundary, **changes)
    groups = parameter_groups(network, boundary, 3e-3, 0.5, 0.01)
    trained_epochs: list[int] = []

    def tell(epoch: Epoch) -> None:
        trained_epochs.append(epoch.epoch)
        if die_at is not None and epoch.epoch == die_at + 1:
            raise Killed

    trained = train(network, boundary, Classify(recipe), opened, recipe, groups, tell, file)
    return trained, trained_epochs


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext"])
def test_a_killed_training_ends_with_the_same_bits_as_an_uninterrupted_one(
    pictures: Pictures, tmp_path: Path, name: str, schedule: str
) -> None:
    whole, _ = run(pictures, tmp_path, None, name=name, schedule=schedule)
    for die_at in (1, 3, 4):
        file = tmp_path / f"{die_at}.safetensors"
        with pytest.raises(Killed):
            run(pictures, tmp_path, file, die_at, name=name, schedule=schedule)
        found = Checkpoint(file).load()
        assert found is not None
        assert len(found[2]) == die_at, "one epoch at most is lost"
        again, told = run(pictures, tmp_path, file, name=name, schedule=schedule)
        assert told == [1, 2, 3, 4, 5]
        assert again.records() == whole.records()
        assert same_state(again.network.state(), whole.network.state())


def test_a_finished_training_is_read_back_and_nothing_is_trained(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "done.safetensors"
    whole, _ = run(pictures, tmp_path, file)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *words, **named: pytest.fail("a step was taken"))
    again, _ = run(pictures, tmp_path, file)
    assert again.records() == whole.records()
    assert same_state(again.network.state(), whole.network.state())


def test_patience_that_had_run_out_is_not_forgotten(pictures: Pictures, tmp_path: Path) -> None:
    file = tmp_path / "patience.safetensors"
    whole, _ = run(pictures, tmp_path, file, epochs=12, patience=1)
    again, told = run(pictures, tmp_path, file, epochs=12, patience=1)
    assert told == [row["epoch"] for row in whole.records()]
    assert again.records() == whole.records()


@pytest.mark.parametrize("damage", ["truncated", "empty", "other", "absent"])
def test_a_checkpoint_that_cannot_be_read_is_no_checkpoint(
    pictures: Pictures, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "damaged.safetensors"
    whole, _ = run(pictures, tmp_path, file)
    content = {"truncated": file.read_bytes()[:-50], "empty": b"", "other": b"\x80\x04pickled"}.get(damage)
    file.unlink() if content is None else file.write_bytes(content)
    assert Checkpoint(file).load() is None
    again, _ = run(pictures, tmp_path, file)
    assert same_state(again.network.state(), whole.network.state())


def test_every_epoch_is_written_and_the_disk_waited_for_once_a_second(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pictures, tmp_path, tmp_path / "before.safetensors")  # the cache is written
    synced: list[int] = []
    monkeypatch.setattr(checkpoint, "SYNC_SECONDS", 3600.0)
    monkeypatch.setattr(os, "fsync", synced.append)
    file = tmp_path / "first.safetensors"
    whole, _ = run(pictures, tmp_path, file)
    found = Checkpoint(file).load()
    assert found is not None
    assert [row["epoch"] for row in found[2]] == [row.epoch for row in whole.history]
    assert len(whole.history) > len(synced) == 1
