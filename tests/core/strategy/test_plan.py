"""Which stages are read is measured: the right ones on planted features, the cheap one among equals."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from steps.core.backbones.readout import Readout
from steps.core.features.settings import HeadSettings
from steps.core.strategy.candidates import Cost
from steps.core.strategy.plan import Comparison, compare_readouts, freeze_boundary, skip_reason
from steps.core.system.errors import BackboneError

HEAD = HeadSettings(scaling="auto", inverse_penalties=[1e-4, 1e1], folds=4, samples=999, class_weights="none")
COSTS = [Cost(100 * number, number) for number in (1, 2, 3, 4, 5)]


@dataclass
class Planted:
    """A cache of features, of which some stages know something of the label."""

    index_table: pd.DataFrame
    shards: dict[str, Path]
    meta: dict[str, Any]


def plant(folder: Path, means: dict[int, float], deviations: dict[int, float], sets: bool = False) -> Planted:
    """Make noise of 4 channels a stage, and add a multiple of the label's corner to means or deviations."""
    draw = np.random.default_rng(0)
    count, classes = 240, 3
    labels = draw.integers(0, classes, count)
    split = np.array(["train", "train", "val", "test"])[np.arange(count) % 4]
    index = pd.DataFrame({"split": split, "shard": "a", "row": range(count), "group": None})
    index["sha256"] = [f"{n:064d}" for n in range(count)]
    corners = np.eye(4)[labels]
    index["label"] = [list(np.eye(classes, dtype=int)[y]) for y in labels] if sets else labels
    kept = {}
    for stage in range(5):
        for name, strengths in (("stage", means), ("deviation", deviations)):
            x = draw.normal(size=(count, 4)) + strengths.get(stage, 0.0) * corners
            kept[f"{name}{stage}"] = x[:, None].astype(np.float16)
    save_file(kept, folder / "a.safetensors")
    return Planted(index, {"a": folder / "a.safetensors"}, {"labels": ["a", "b", "c"], "stages": 5})


def compared(cache: Planted, length: int = 3, samples: int = 999) -> Comparison:
    return compare_readouts(cache, COSTS, length, HEAD, (samples, 0.1, 200, 0))


@pytest.mark.parametrize("stage", [0, 2, 4])
def test_the_stage_that_knows_the_label_is_read_and_later_ones_are_left_out(
    tmp_path: Path, stage: int
) -> None:
    found = compared(plant(tmp_path, {stage: 3.0}, {}))
    assert found.chosen == Readout(stage, stage + 1, True)
    assert found.predicted["value"] > 0.8
    assert found.predicted["low"] < found.predicted["value"] < found.predicted["high"]
    assert found.predicted["samples"] == 180, "test is not looked at"


def test_what_only_deviations_know_is_found(tmp_path: Path) -> None:
    found = compared(plant(tmp_path, {}, {3: 3.0}))
    assert found.chosen == Readout(3, 4, True)
    assert found.predicted["value"] > 0.8


def test_stages_that_know_different_things_are_read_together(tmp_path: Path) -> None:
    found = compared(plant(tmp_path, {2: 1.2, 3: 1.2, 4: 1.2}, {}))
    assert found.chosen == Readout(2, 5, True)
    alone = max(row["value"] for row in found.rows if row["model"].startswith("stage "))
    assert found.predicted["value"] > alone + 0.05


def test_of_equals_the_cheaper_cut_is_taken(tmp_path: Path) -> None:
    found = compared(plant(tmp_path, {1: 9.0, 4: 9.0}, {}))
    assert found.chosen == Readout(1, 2, True)
    assert [row["model"] for row in found.rows if row["equal"]] != [found.chosen.named()]


def test_label_sets_are_compared_too(tmp_path: Path) -> None:
    found = compared(plant(tmp_path, {3: 3.0}, {}, sets=True))
    assert found.chosen == Readout(3, 4, True)
    assert found.predicted["metric"] == "map"


def test_no_more_samples_are_used_than_asked_and_twice_gives_the_same(tmp_path: Path) -> None:
    cache = plant(tmp_path, {2: 2.0}, {})
    once, twice = compared(cache, samples=60), compared(cache, samples=60)
    assert once == twice
    assert once.predicted["samples"] == 60


@pytest.mark.parametrize(
    ("unfreeze", "readout", "boundary"),
    [
        (0, Readout.top(8), 8), (3, Readout.top(8), 5), ("all", Readout.top(8), 0), (8, Readout.top(8), 0),
        (0, Readout(4, 8, True), 8), (3, Readout(4, 8, True), 5), (1, Readout(4, 8, True), 5),
        (3, Readout(5, 6, True), 3), (7, Readout(1, 3, True), 0),
    ],
)  # fmt: skip
def test_the_boundary_lies_below_what_trains_and_never_above_what_is_read(
    unfreeze: int | str, readout: Readout, boundary: int
) -> None:
    assert freeze_boundary(unfreeze, readout, 8) == boundary


@pytest.mark.parametrize("unfreeze", [9, "most"])
def test_more_stages_than_there_are_cannot_be_unfrozen(unfreeze: int | str) -> None:
    with pytest.raises(
        BackboneError, match=rf"fine_tune\.unfreeze: found {unfreeze}, expected 0 to 8, or all"
    ):
        freeze_boundary(unfreeze, Readout.top(8), 8)


def test_nothing_is_trained_where_no_gain_could_be_shown() -> None:
    assert "0.9 mistakes" in str(skip_reason("auto", 0.01, 90, 1.0))
    assert skip_reason("auto", 0.02, 90, 1.0) is None
    assert skip_reason("auto", None, 90, 1.0) is None, "where nothing was compared"
    assert skip_reason("partial", 0.0, 90, 1.0) is None
    assert skip_reason("full", 0.0, 90, 1.0) is None
    assert "is features" in str(skip_reason("features", 0.5, 90, 1.0))
