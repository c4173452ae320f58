"""Sentences in a table run through every phase: the same ones, and nothing else knows that they are texts."""

import json
from pathlib import Path
from typing import Any

import pytest

from steps import PHASES
from steps.runtime.phase import load_phase
from tests.clone import Clone, make_text_clone
from tests.core.text_toys import CLASSES


@pytest.fixture(scope="module")
def by_zenml(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, dict[str, Any]]:
    clone = make_text_clone(tmp_path_factory.mktemp("text") / "project")
    return clone, clone.zenml()


def test_every_phase_runs_on_sentences(by_zenml: tuple[Clone, dict[str, Any]]) -> None:
    clone, report = by_zenml
    assert [row["phase"] for row in report["phases"] if not row["reused"]] == list(PHASES)
    assert report["decision"]["verdict"] == "promoted"
    assert report["models"]["finetuned"]["accuracy"]["value"] > 0.8
    (page,) = clone.folder.glob(f"reports/{report['run']}/report.html")
    assert "rgba(220" in page.read_text(), "the words that an answer rests on are coloured"


def test_the_promoted_file_answers_sentences(by_zenml: tuple[Clone, dict[str, Any]]) -> None:
    clone, _ = by_zenml
    (clone.folder / "asked.csv").write_text('text\n"The pump 5 leaks badly."\n"A valve 9 works very well."\n')
    done = clone.run("headstart", "predict", "sentences.csv", "asked.csv")
    assert done.returncode == 0, done.stdout + done.stderr
    places = [path for path in clone.folder.rglob("predictions.parquet") if ".headstart" not in path.parts]
    answers = max(places, key=lambda path: path.stat().st_mtime)
    import pandas as pd

    table = pd.read_parquet(answers)
    assert list(table["label"]) == ["complaint", "praise"]
    assert {f"p {name}" for name in CLASSES} <= set(table.columns)


def test_the_server_answers_a_text_and_its_page_has_a_box_for_one(
    by_zenml: tuple[Clone, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastapi.testclient import TestClient

    from infra.champion import ChampionFollower
    from infra.serving import make_app
    from steps.runtime import mlflow_client
    from steps.runtime.params import Serve
    from steps.runtime.phase import all_configs
    from steps.runtime.registry import Registry

    folder = by_zenml[0].folder
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("HEADSTART_SCRATCH", str(folder / ".headstart"))
    limits = all_configs(folder / "params.yaml")["serve"]
    assert isinstance(limits, Serve)
    registry = Registry("sentences.csv", mlflow_client.connect())
    client = TestClient(make_app(ChampionFollower(registry), limits))
    page = client.get("/").text
    assert "<textarea" in page
    assert 'type="file"' not in page
    rows = [{"text": "The old belt 7 is broken again."}, {"text": "Where can it be ordered?"}]
    answer = client.post("/invocations", json={"dataframe_records": rows})
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["label"] == "complaint"
    assert client.post("/invocations", json={"dataframe_records": [{"text": " "}]}).status_code == 400


@pytest.mark.slow
def test_the_other_engine_writes_equal_digests(
    by_zenml: tuple[Clone, dict[str, Any]], tmp_path: Path
) -> None:
    clone = make_text_clone(tmp_path / "project")
    commands = (("git", "init", "-q"), ("dvc", "init", "-q"), ("python", "-m", "infra.dvc_stages"))
    assert [clone.run(*words).returncode for words in commands] == [0, 0, 0]
    assert sorted(clone.repro()) == sorted(PHASES)
    places = clone.folder / "artifacts"
    for row in by_zenml[1]["phases"]:
        phase = load_phase(row["phase"])
        kind = phase.function.__annotations__["return"].__origin__
        assert kind.load(places / phase.output).digest == row["digest"], row["phase"]
    assert json.loads((places / "manifest/root.json").read_text())["root"] == "sentences.csv#text"
