"""Both engines, run as a user runs them, on a small data set: equal digests, and no stale result."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image, ImageOps

from pipelines.stale_runs import REASON
from steps import PHASES
from steps.artifacts.models import Candidate
from steps.runtime.phase import load_phase
from steps.runtime.tracking import KEY
from tests.bench.kill_tests import digests, kill_repeatedly, seconds_of, still_running
from tests.clone import Clone, make_clone

Report = dict[str, Any]


@pytest.fixture(scope="module")
def by_zenml(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, Report]:
    clone = make_clone(tmp_path_factory.mktemp("zenml") / "project")
    return clone, clone.zenml()


@pytest.fixture(scope="module")
def by_dvc(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, list[str]]:
    clone = make_clone(tmp_path_factory.mktemp("dvc") / "project")
    for words in (("git", "init", "-q"), ("dvc", "init", "-q")):
        assert clone.run(*words).returncode == 0
    return clone, clone.repro()


def ran(report: Report) -> list[str]:
    return [row["phase"] for row in report["phases"] if not row["reused"]]


@contextmanager
def changed(path: Path, old: str, new: str) -> Iterator[None]:
    """Change a file for the while of a test; other tests share the clone."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    yield
    path.write_text(text)


def change_picture(path: Path) -> None:
    """Draw another picture; one that resembles none that is there."""
    with Image.open(path) as image:
        ImageOps.invert(image).save(path)


def depending_on(file: str) -> set[str]:
    return {name for name in PHASES if file in load_phase(name).code}


def test_both_engines_run_every_phase_and_write_equal_digests(
    by_zenml: tuple[Clone, Report], by_dvc: tuple[Clone, list[str]]
) -> None:
    (_, report), (clone, stages) = by_zenml, by_dvc
    assert ran(report) == list(PHASES)
    assert sorted(stages) == sorted(PHASES)
    for row in report["phases"]:
        phase = load_phase(row["phase"])
        kind = phase.function.__annotations__["return"].__origin__
        assert kind.load(clone.folder / "artifacts" / phase.output).digest == row["digest"], row["phase"]


def test_the_report_says_what_was_asked_of_it(by_zenml: tuple[Clone, Report]) -> None:
    clone, report = by_zenml
    assert [row["phase"] for row in report["phases"]] == list(PHASES)
    assert all(row["seconds"] > 0 for row in report["phases"])
    assert set(report["models"]) == set(get_args(Candidate))
    chosen = report["decision"]["candidate"]
    assert {row["model"] for row in chosen["rows"]} == set(report["models"])
    assert chosen["chosen"] in report["models"]
    assert report["decision"]["explanation"][0].startswith("Promoted because all")
    for metrics in report["models"].values():
        for metric in metrics.values():
            assert metric["low"] <= metric["value"] <= metric["high"]
    rows = {row["model"]: row for row in report["pareto"]}
    assert len(rows) == 5, "the teacher, the student, two controls, the candidate that was not chosen"
    assert sum(row["accuracy"] is None for row in rows.values()) == 1
    assert all(row["latency_p50_ms"] > 0 and row["megabytes"] > 0 for row in rows.values())
    assert report["decision"]["measured"]["distillation"]["reason"]
    assert report["decision"]["verdict"] == "promoted"
    assert report["findings"]
    (page,) = clone.folder.glob(f"reports/{report['run']}/report.html")
    text = page.read_text()
    assert "data:image/png;base64," in text
    assert "http://" not in text, "the page must open offline"
    assert "https://" not in text, "the page must open offline"


def test_the_exact_set_of_artifact_files(by_dvc: tuple[Clone, list[str]]) -> None:
    folder = by_dvc[0].folder / "artifacts"
    model = {"artifact.json", "model.safetensors", "classifier.json", "history.json", "metrics.json"}
    cached = {"artifact.json", "index.parquet", "features.json"}
    shards = {"test-00000.safetensors", "test-00001.safetensors", "val-00000.safetensors"}
    expected = {
        "manifest": {"artifact.json", "manifest.parquet", "root.json"},
        "dataset": {
            "artifact.json",
            "manifest.parquet",
            "root.json",
            "findings.json",
            "suite.json",
            "audit.html",
            "suspects.csv",
        },
        "backbone": {"artifact.json", "backbone.json", "weights.safetensors"},
        "stats": {"artifact.json", "stats.json"},
        "plan": {"artifact.json", "plan.json"},
        "warm_head": model,
        "learning_rates": {"artifact.json", "learning_rates.json", "search.html"},
        "finetuned": model,
        "student": {*model, "choice.json", "figures.json", "hard_labels", "frozen"},
        "report": {
            "artifact.json",
            "metrics.json",
            "predictions.parquet",
            "report.html",
            "coverage.json",
            "reliability.json",
            "answers.json",
        },
        "decision": {"artifact.json", "decision.json", "measured.json"},
    }
    found = {path.name: {file.name for file in path.iterdir()} for path in folder.iterdir() if path.is_dir()}
    features, prefix = found.pop("features"), found.pop("prefix")
    assert found == expected
    assert features == cached | {f"{number:05d}.safetensors" for number in range(5)}
    assert {name for name in prefix if name.startswith("train-")} | shards | cached == prefix


@pytest.mark.parametrize("engine", ["zenml", "dvc"])
def test_mlflow_has_one_run_per_pipeline_run_with_one_nested_for_each_phase(
    engine: str, by_zenml: tuple[Clone, Report], by_dvc: tuple[Clone, list[str]]
) -> None:
    folder = (by_zenml if engine == "zenml" else by_dvc)[0].folder
    parents, nested = recorded(folder)
    first = min(parents, key=lambda run: run.info.start_time)
    children = [run for run in nested if run.data.tags["mlflow.parentRunId"] == first.info.run_id]
    assert sorted(run.info.run_name for run in children) == sorted(PHASES)
    assert all(run.info.status == "FINISHED" for run in [first, *children])
    assert {first.data.tags[f"phase.{name}"] for name in PHASES} == {"ran"}
    assert {"git_commit", "data_digest", "weights_digest", "seed"} <= set(first.data.tags)
    assert first.info.run_name == f"images: {first.data.tags['model'].replace('_', ' ')}, promoted"
    assert first.data.metrics["accuracy_low"] <= first.data.metrics["accuracy"]
    assert first.data.tags["verdict"] == "promoted"
    (given,) = first.inputs.dataset_inputs
    assert given.dataset.name == "images"
    assert first.data.tags["data_digest"].startswith(given.dataset.digest)
    tuned = next(run for run in children if run.info.run_name == "fine_tune")
    assert tuned.data.params["unfreeze"] == "2"
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    assert len(client.get_metric_history(tuned.info.run_id, "val_loss")) >= 2
    evaluated = next(run for run in children if run.info.run_name == "evaluate")
    files = {file.path for file in client.list_artifacts(evaluated.info.run_id)}
    assert "report.html" in files
    searched = next(run for run in children if run.info.run_name == "search_lr_ratio")
    trials = [r for r in nested if r.data.tags["mlflow.parentRunId"] == searched.info.run_id]
    assert sorted(run.info.run_name for run in trials) == [
        "discriminative-0", "discriminative-1", "uniform-0",
    ]  # fmt: skip
    assert all("head_lr" in run.data.params for run in trials)
    ended = [run for run in trials if run.data.tags["state"] == "complete"]
    assert ended
    assert all("val_loss" in run.data.metrics for run in ended)
    assert "search.html" in {file.path for file in client.list_artifacts(searched.info.run_id)}


def recorded(folder: Path) -> tuple[list[Run], list[Run]]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=500)
    nested = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    return [run for run in runs if run not in nested], nested


def test_a_run_in_which_nothing_but_the_readme_changed_reuses_every_phase_under_zenml(
    by_zenml: tuple[Clone, Report],
) -> None:
    clone, first = by_zenml
    before = len(recorded(clone.folder)[1])
    readme = clone.folder / "README.md"
    readme.write_text(readme.read_text() + "\n<!-- a comment -->\n")
    again = clone.zenml()
    assert ran(again) == []
    assert [row["digest"] for row in again["phases"]] == [row["digest"] for row in first["phases"]]
    parents, nested = recorded(clone.folder)
    assert len(nested) == before, "a reused phase makes no run"
    (parent,) = [run for run in parents if run.data.tags[KEY] == again["run"]]
    assert {parent.data.tags[f"phase.{name}"] for name in PHASES} == {"reused"}


def test_a_run_in_which_nothing_but_the_readme_changed_reuses_every_phase_under_dvc(
    by_dvc: tuple[Clone, list[str]],
) -> None:
    clone = by_dvc[0]
    readme = clone.folder / "README.md"
    readme.write_text(readme.read_text() + "\n<!-- a comment -->\n")
    assert clone.repro() == []


HELPER = "steps/core/evaluation/evaluation.py"
WORDS = ("Identify a test set by contents and labels", "Name a test set by contents and labels")


def test_a_changed_helper_runs_what_depends_on_it_again_under_zenml(by_zenml: tuple[Clone, Report]) -> None:
    clone = by_zenml[0]
    with changed(clone.folder / HELPER, *WORDS):
        assert set(ran(clone.zenml())) == depending_on(HELPER) == {"distill", "evaluate", "promote"}


def test_a_changed_helper_runs_what_depends_on_it_again_under_dvc(by_dvc: tuple[Clone, list[str]]) -> None:
    clone = by_dvc[0]
    with changed(clone.folder / HELPER, *WORDS):
        assert set(clone.repro()) == depending_on(HELPER)


def test_a_changed_image_runs_the_phases_after_ingestion_under_zenml(by_zenml: tuple[Clone, Report]) -> None:
    clone = by_zenml[0]
    change_picture(clone.folder / "images/red/000.png")
    assert set(ran(clone.zenml())) == set(PHASES)


@pytest.mark.slow
def test_a_changed_image_runs_the_phases_after_ingestion_under_dvc(by_dvc: tuple[Clone, list[str]]) -> None:
    clone = by_dvc[0]
    change_picture(clone.folder / "images/red/000.png")
    assert set(clone.repro()) == set(PHASES)


def test_every_mistake_in_params_is_reported_at_once_and_before_any_work(
    by_zenml: tuple[Clone, Report], by_dvc: tuple[Clone, list[str]]
) -> None:
    for clone, words in (
        (by_zenml[0], ("zenml", "pipeline", "run", "finetune_pipeline")),
        (by_dvc[0], ("dvc", "repro", "-f", "-s", "ingest_data")),
    ):
        before = written(clone.folder)
        with changed(clone.folder / "params.yaml", "unfreeze:", "unfreze:"):
            clone.set_params(warm_up_head={"folds": 1}, evaluate={"bootstrap": "many"})
            done = clone.run(*words)
        said = done.stdout + done.stderr
        assert done.returncode != 0
        for expected in (
            "fine_tune.unfreze: unknown key",
            "fine_tune.unfreeze: missing",
            "warm_up_head.folds: found 1, expected greater than or equal to 2",
            "evaluate.bootstrap: found 'many', expected a valid integer",
        ):
            assert expected in said, said[-2000:]
        assert "Traceback" not in said
        assert written(clone.folder) <= before, "DVC takes a stage's old output away; nothing is written"


def test_dvc_never_records_params_that_the_phases_did_not_read(by_dvc: tuple[Clone, list[str]]) -> None:
    done = by_dvc[0].run("dvc", "repro", "-f", "-s", "ingest_data", HEADSTART_DATA="elsewhere")
    assert done.returncode != 0
    assert "DVC watches params.yaml alone: unset HEADSTART_DATA" in done.stderr


def written(folder: Path) -> set[tuple[Path, int]]:
    return {(path, path.stat().st_mtime_ns) for path in folder.glob("artifacts/*/*")}


def test_the_readers_of_report_json_find_the_same_numbers_in_the_artifact(
    by_dvc: tuple[Clone, list[str]],
) -> None:
    metrics = json.loads((by_dvc[0].folder / "artifacts/report/metrics.json").read_text())
    shown = by_dvc[0].run("dvc", "metrics", "show", "--json")
    assert shown.returncode == 0, shown.stderr
    data = json.loads(shown.stdout)[""]["data"]["artifacts/report/metrics.json"]["data"]
    assert data["models"] == metrics["models"]


STATES = """
import json
from zenml.client import Client
runs = Client().list_pipeline_runs(size=50, hydrate=True)
facts = [[str(r.status), r.get_body().status_reason, [str(s.status) for s in r.steps.values()]] for r in runs]
print(json.dumps(facts))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_four_times_ends_like_one_that_is_not(
    by_zenml: tuple[Clone, Report], tmp_path: Path
) -> None:
    clone = make_clone(tmp_path / "project")
    wanted = {"validate_data": 1, "cache_features": 1, "search_lr_ratio": 1, "fine_tune": 1}
    kills = kill_repeatedly(clone, "zenml", seconds_of(by_zenml[0]), wanted)
    assert len(kills) >= 3
    assert all(kill.lost <= 1 for kill in kills)
    first = min(by_zenml[0].folder.glob("reports/*/report.json"), key=lambda path: path.stat().st_mtime)
    untouched = {load_phase(r["phase"]).output: r["digest"] for r in json.loads(first.read_text())["phases"]}
    assert digests(clone, "zenml") == untouched
    runs = json.loads(clone.run("python", "-c", STATES).stdout.splitlines()[-1])
    assert [state for state, _, _ in runs].count("completed") == 1
    assert {(state, reason) for state, reason, _ in runs if state != "completed"} == {("failed", REASON)}
    assert "running" not in {step for _, _, steps in runs for step in steps}
    assert not still_running(clone)
