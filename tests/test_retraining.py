"""A retraining as it is typed: nothing to do is cheap, new and drifted pictures train, a failure alerts."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from steps import RETRAINING
from tests.clone import CLASSES, Clone, make_clone

pytestmark = pytest.mark.slow

ALERTER = """
from pathlib import Path
from zenml.alerter.base_alerter import BaseAlerter, BaseAlerterConfig, BaseAlerterFlavor


class FileAlerter(BaseAlerter):
    def post(self, message, params=None):
        Path(__file__).with_name("alerts.txt").write_text(message)
        return True

    def ask(self, question, params=None):
        return False


class FileAlerterFlavor(BaseAlerterFlavor):
    name = "file"
    config_class = BaseAlerterConfig
    implementation_class = FileAlerter
"""


def retrain(clone: Clone) -> tuple[str, float]:
    begun = time.monotonic()
    done = clone.run("zenml", "pipeline", "run", "retraining_pipeline")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr, time.monotonic() - begun


def report_of(clone: Clone) -> dict[str, Any]:
    newest = max(clone.folder.glob("reports/*/report.json"), key=lambda path: path.stat().st_mtime)
    content: dict[str, Any] = json.loads(newest.read_text())
    return content


def recorded(clone: Clone, phase: str) -> list[dict[str, Any]]:
    """The tags and metrics of every run of a phase, the latest first."""
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(ids, f"tags.phase = '{phase}'")
    return [{**run.data.tags, **run.data.metrics, **run.data.params} for run in runs]


def brighten(folder: Path) -> None:
    """Add pictures that are brighter and flatter than those that were trained on."""
    generator = np.random.default_rng(5)
    for number, name in enumerate(CLASSES):
        for i in range(15):
            pixels = generator.integers(100, 165, (40, 48, 3))
            pixels[..., 2 - number] += 90
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"bright-{i:03d}.png")


def test_first_trained_then_nothing_to_do_then_trained_for_drift(tmp_path: Path) -> None:
    clone = make_clone(tmp_path / "project")
    said, training = retrain(clone)
    assert "retrain: there is no champion" in said
    first = report_of(clone)
    assert [row["phase"] for row in first["phases"]] == list(RETRAINING)
    assert first["decision"]["verdict"] == "promoted"

    reports = len(list(clone.folder.glob("reports/*")))
    said, looking = retrain(clone)
    assert "nothing to do: no reason" in said
    assert len(list(clone.folder.glob("reports/*"))) == reports
    assert recorded(clone, "watch_data")[0]["verdict"] == "nothing to do", "it is recorded"
    assert looking < training / 2, f"{looking:.0f} s against {training:.0f} s"

    brighten(clone.folder / "images")
    clone.set_params(validate_data={"max_drift": 1.0})
    said, _ = retrain(clone)
    assert "retrain: 45 new or relabelled samples; drift of z" in said
    second = report_of(clone)
    rows = {row["phase"]: row for row in second["phases"]}
    found = rows["judge_newest"]["numbers"]
    assert {"frozen_champion", "frozen_challenger", "frozen_gain", "newest_champion"} <= set(found)
    (started,) = {row["from_champion"] for row in recorded(clone, "warm_start")[:1]}
    losses = recorded(clone, "warm_start")[0]
    better = losses["val_loss_from_champion"] < losses["val_loss_from_pretrained"]
    assert started == float(better), "the start that validates better is kept"


def test_a_failed_run_alerts_and_leaves_its_exit_code_and_a_log_line(tmp_path: Path) -> None:
    clone = make_clone(tmp_path / "project")
    (clone.folder / "alerting.py").write_text(ALERTER)
    for words in (
        ("alerter", "flavor", "register", "alerting.FileAlerterFlavor"),
        ("alerter", "register", "file", "--flavor=file"),
        ("stack", "register", "watched", "-o", "default", "-a", "default", "-al", "file", "--set"),
    ):
        done = clone.run("zenml", *words)
        assert done.returncode == 0, done.stdout + done.stderr
    for path in (clone.folder / "images").rglob("*.png"):
        path.write_bytes(b"no sample")
    done = clone.run("python", "-m", "infra.retrain")
    assert done.returncode == 1
    assert "failed with exit code 1" in done.stderr
    assert "failed with exit code 1" in (clone.folder / "alerts.txt").read_text()
    again = clone.run("python", "-m", "infra.retrain")
    assert again.returncode == 0
    assert "retraining: not due before" in again.stderr
