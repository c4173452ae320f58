"""Data with several labels per row, through the real pipeline as a user runs it."""

from pathlib import Path
from typing import Any

import pytest

from steps import PHASES
from steps.artifacts.dataset import Dataset
from steps.artifacts.decision import Decision
from steps.artifacts.models import Classifier, Student
from steps.core.tasks.label_sets import SET_METRICS
from steps.runtime.phase import load_phase
from tests.clone import Clone, make_set_clone


@pytest.fixture(scope="module")
def by_zenml(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, dict[str, Any]]:
    clone = make_set_clone(tmp_path_factory.mktemp("sets") / "project")
    return clone, clone.zenml()


def test_every_phase_runs_and_the_report_is_about_label_sets(by_zenml: tuple[Clone, dict[str, Any]]) -> None:
    clone, report = by_zenml
    assert [row["phase"] for row in report["phases"] if not row["reused"]] == list(PHASES)
    for metrics in report["models"].values():
        assert set(metrics) == set(SET_METRICS)
        assert all(row["low"] <= row["value"] <= row["high"] for row in metrics.values())
    gates = {gate["gate"] for gate in report["decision"]["gates"]}
    assert {
        "macro_auroc",
        "map",
        "macro_f1",
        "ece",
        f"parity: {report['decision']['candidate']['chosen']}, fp32, logits",
    } <= gates
    assert "accuracy" not in gates
    assert report["decision"]["verdict"] == "promoted"
    assert [row["class"] for row in report["per_class"]["finetuned"]] == ["blue", "green", "red"]
    assert all(0 < row["threshold"] < 1 for row in report["per_class"]["finetuned"])
    (page,) = clone.folder.glob(f"reports/{report['run']}/report.html")
    text = page.read_text()
    assert "its labels" in text
    assert "threshold" in text
    assert "http://" not in text


@pytest.mark.slow
def test_both_engines_give_label_sets_equal_digests(
    by_zenml: tuple[Clone, dict[str, Any]], tmp_path: Path
) -> None:
    clone = make_set_clone(tmp_path / "project")
    for words in (("git", "init", "-q"), ("dvc", "init", "-q")):
        assert clone.run(*words).returncode == 0
    assert sorted(clone.repro()) == sorted(PHASES)
    places = clone.folder / "artifacts"
    for row in by_zenml[1]["phases"]:
        phase = load_phase(row["phase"])
        kind = phase.function.__annotations__["return"].__origin__
        assert kind.load(places / phase.output).digest == row["digest"], row["phase"]
    dataset = Dataset.load(places / "dataset")
    assert dataset.label_sets
    assert "" in set(dataset.table["label"])
    for noun, kind in (("warm_head", Classifier), ("finetuned", Classifier), ("student", Student)):
        assert len(kind.load(places / noun).meta["thresholds"]) == len(dataset.labels)
    facts = Decision.load(places / "decision").deployment
    assert all(row["agreement"] == 1.0 for row in facts if row["variant"] == "fp32")
