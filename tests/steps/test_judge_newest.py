"""Champion and challenger on frozen and newest test images: on what both can be measured."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from steps.artifacts.dataset import Dataset
from steps.artifacts.models import Student
from steps.artifacts.report import Report
from steps.artifacts.watch import Newest, Watch
from steps.judge_newest import JudgeNewest, judge_newest
from steps.runtime import mlflow_client, tracking
from steps.runtime.phase import all_configs
from tests.clone import ROOT
from tests.steps.test_promote_phase import decide, fitted, images, run
from tests.steps.test_validate_data import gate
from tests.steps.test_watch_data import paint

__all__ = ["images"]


def judge(dataset: Dataset, newest: list[str], version: str | None = "1", **changes: Any) -> Newest:
    settings = all_configs(ROOT / "params.yaml")["judge_newest"].model_dump()
    champion = {"name": "images", **({"version": version} if version else {})}
    model = fitted(dataset)
    controls = {"hard_labels": model, "frozen": model}
    student = Student(model.state, model.meta, [], {}, controls, {"chosen": "x"}, {})
    report = Report({"candidate": {"chosen": "finetuned"}}, pd.DataFrame(), "")
    watch = Watch(["a reason"], champion, {}, [], newest)
    with tracking.phase_run("newest", "judge_newest", {"seed": 0}, {}):
        cfg = JudgeNewest.model_validate({**settings, **changes})
        return judge_newest(dataset, model, model, student, report, watch, cfg)


def test_a_champion_that_does_not_know_a_class_is_measured_on_the_others(images: Path) -> None:
    first = gate(images)
    decide(run(first, fitted(first, known=2)))
    paint(images / "yellow", 20)
    second = gate(images)
    newest = sorted(set(second.table["sha256"]) - set(first.table["sha256"]))
    found = judge(second, newest)
    frozen, new = found.parts["frozen"], found.parts["newest"]
    assert frozen["compared"] == frozen["samples"] == len(first.part("test"))
    assert {"challenger", "champion", "gain"} == set(frozen["accuracy"])
    assert "new: yellow" in frozen["said"]
    assert "champion" not in new["accuracy"], "all of them are of the new class"
    assert new["not_compared"] == "no test image is left that neither of them has learnt from"
    refused = judge(second, newest, on_new_classes="refuse").parts["frozen"]
    assert "the champion does not know yellow" in refused["not_compared"]
    assert found.headline()["frozen_gain"] == frozen["accuracy"]["gain"]["value"]


def test_images_that_the_champion_was_trained_on_are_left_out(images: Path) -> None:
    first = gate(images)
    decide(run(first, fitted(first, known=2)))
    table = first.table.copy()
    rows = table.index[table["split"] == "train"][:4]
    table.loc[rows, "split"] = "test"
    moved = Dataset(table, first.root, first.overlooked, first.findings, first.suite)
    part = judge(moved, []).parts["frozen"]
    assert (part["samples"], part["compared"]) == (len(first.part("test")) + 4, len(first.part("test")))
    assert "the champion has learnt from 4 (4 by their bytes" in part["because"]


@pytest.mark.parametrize("there", ["none", "lost"])
def test_without_a_champion_the_challenger_is_measured_alone(images: Path, there: str) -> None:
    dataset = gate(images)
    if there == "lost":
        decide(run(dataset, fitted(dataset, known=2)))
        source = Path(mlflow_client.connect().get_model_version_download_uri("images", "1"))
        source.rename(source.with_name("elsewhere"))
    found = judge(dataset, [], "1" if there == "lost" else None)
    assert set(found.parts["frozen"]["accuracy"]) == {"challenger"}
