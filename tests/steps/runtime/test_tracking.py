import hashlib
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, create_trial

from steps.core.system.storage import RunSummary
from steps.runtime import mlflow_client, tracking
from tests.clone import ROOT
from tests.stores import use_store


def trial(number: int) -> FrozenTrial:
    made = create_trial(
        value=0.5,
        params={"head_lr": 1e-3, "ratio": 0.5},
        distributions={name: FloatDistribution(1e-4, 1.0, log=True) for name in ("head_lr", "ratio")},
        user_attrs={"slot": number},
        intermediate_values={0: 0.9, 1: 0.5, 2: 0.7},
    )
    made.number = number
    return made


def test_every_trial_is_a_run_below_the_phase_s_and_costs_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_store(tmp_path, monkeypatch)
    seconds = []
    with tracking.phase_run("run", "search_lr_ratio", {"seed": 0}, {}) as record:
        for number in range(12):
            begun = time.process_time()
            tracking.log_trial("discriminative", trial(number))
            seconds.append(time.process_time() - begun)
    client = mlflow_client.connect()
    runs = client.search_runs([mlflow_client.experiment(client)], max_results=100)
    trials = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == record.run]
    assert sorted(run.info.run_name for run in trials) == sorted(f"discriminative-{n}" for n in range(12))
    one = trials[0]
    assert (one.data.params["head_lr"], one.data.params["ratio"]) == ("0.001", "0.5")
    history = client.get_metric_history(one.info.run_id, "val_loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.9), (2, 0.5), (3, 0.7)]
    assert one.info.status == "FINISHED"
    # a trial of the demo trains for seconds: this is a few per cent of it
    assert statistics.median(seconds) < 0.1, seconds


def test_the_list_of_runs_shows_the_data_set_the_figures_and_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_store(tmp_path, monkeypatch)
    data = {"name": "leaves", "digest": "ab" * 32, "source": "data/leaves", "profile": {"samples": 9}}
    with tracking.phase_run("run", "validate_data", {"seed": 0}, {}) as record:
        record.summarise(RunSummary("leaves", data=data))
    (tmp_path / "nothing").mkdir()
    said = RunSummary("leaves: student, promoted", {"accuracy": 0.9}, {"verdict": "promoted"})
    tracking.close_parent("run", tmp_path / "nothing", [said, RunSummary()])
    parent = mlflow_client.connect().get_run(record.parent)
    assert parent.info.run_name == "leaves: student, promoted"
    assert parent.data.metrics == {"accuracy": 0.9}
    assert parent.data.tags["verdict"] == "promoted"
    (given,) = parent.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("leaves", "ab" * 18)


def test_outside_of_a_run_a_trial_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    tracking.log_trial("discriminative", trial(0))
    assert not list(tmp_path.iterdir())


DIES = """
import os, signal
from steps.runtime import tracking

with tracking.phase_run("killed", "evaluate", {"seed": 0}, {}):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_runs_of_a_killed_process_are_ended_by_the_next_and_those_of_a_living_one_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_store(tmp_path, monkeypatch)
    client = mlflow_client.connect()
    stranger = client.create_run(mlflow_client.experiment(client), run_name="of somebody else")
    with tracking.phase_run("living", "distill", {"seed": 0}, {}):
        paths = {**os.environ, "PYTHONPATH": str(ROOT)}
        died = subprocess.run([sys.executable, "-c", DIES], check=False, env=paths)
        assert died.returncode == -signal.SIGKILL
        with tracking.phase_run("next", "promote", {"seed": 0}, {}):
            runs = client.search_runs([mlflow_client.experiment(client)])
    states = {run.info.run_name: run.info.status for run in runs}
    assert states == {
        "of somebody else": "RUNNING", "living": "RUNNING", "distill": "RUNNING", "killed": "KILLED",
        "evaluate": "KILLED", "next": "RUNNING", "promote": "RUNNING",
    }  # fmt: skip
    killed = next(run for run in runs if run.info.run_name == "killed")
    assert "its process was killed" in killed.data.tags["headstart.ended"]
    assert killed.data.tags["phase.evaluate"] == "killed"
    assert stranger.info.status == "RUNNING"


def shown(run: str, test: list[str], *models: str) -> None:
    with tracking.phase_run(run, "evaluate", {"seed": 0}, {}):
        tracking.record_test_use(test, f"digest of {run}", models)


def test_every_model_that_a_test_set_was_shown_to_counts_once_and_one_more_image_forgets_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_store(tmp_path, monkeypatch)
    test = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(100)]
    shown("one", test, "warm", "fine", "student")
    shown("again", test, "warm", "fine", "student")
    assert tracking.count_test_uses(test, "", 0.5) == 3
    grown = [*test, "f" * 64]
    shown("other", grown, "warm", "better")
    assert tracking.count_test_uses(grown, "", 0.5) == tracking.count_test_uses(test, "", 0.5) == 4
    other = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(1000, 1100)]
    assert tracking.count_test_uses(other, "", 0.5) == 0
    half = [*test[:50], *other[:50]]
    assert [tracking.count_test_uses(half, "", share) for share in (0.5, 0.51)] == [4, 0]


def test_looks_of_before_there_were_sketches_are_found_by_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_store(tmp_path, monkeypatch)
    with tracking.phase_run("old", "evaluate", {"seed": 0}, {}) as record:
        record.batch(record.run, tags={"test_digest": "abc", "shown_to": "fine"})
    assert tracking.count_test_uses(["0" * 64], "abc", 0.5) == 1
    assert tracking.count_test_uses(["0" * 64], "abd", 0.5) == 0
