"""What is said to Slurm and what is made of its answers, as far as that can be seen without it.

tests/pipelines/test_slurm.py asks two real nodes.
"""

from pathlib import Path

import pytest
from zenml.config.resource_settings import ResourceSettings
from zenml.models import ExceptionInfo

from pipelines import jobs
from pipelines.job_errors import traceback_or_log
from pipelines.slurm import SlurmOrchestratorFlavor, SlurmSettings
from pipelines.slurm_operator import SlurmStepOperatorFlavor
from steps.core.system.errors import ClusterError


def stub(folder: Path, name: str, text: str) -> None:
    """Put a command of this name first on the path."""
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("job", "said", "ended"),
    [
        (jobs.Job("PENDING", "Resources"), "pending (Resources)", False),
        (jobs.Job("RUNNING", "None", "n1"), "running on n1", False),
        (jobs.Job("COMPLETED", "None", "n1"), "completed on n1", True),
        (jobs.Job("NODE_FAIL", "NodeDown", "n2"), "node_fail on n2 (NodeDown)", True),
        (jobs.Job("OUT_OF_MEMORY", "OutOfMemory", "n2"), "out_of_memory on n2 (OutOfMemory)", True),
        (jobs.Job("GONE"), "gone", True),
    ],
)
def test_a_job_is_told_in_words_and_known_to_have_ended(job: jobs.Job, said: str, ended: bool) -> None:
    assert (str(job), job.ended) == (said, ended)


def test_without_slurm_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match=r"squeue is not installed here.*make stack NAME=local"):
        jobs.query_jobs([1])


def test_what_has_ended_stays_as_it_was_seen_when_slurm_forgets_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    once = tmp_path / "once"
    first, later = "1|COMPLETED|None|n1\n2|RUNNING|None|n2", "2|FAILED|NonZeroExitCode|n2"
    stub(tmp_path, "squeue", f"[ -e {once} ] && echo '{later}' && exit; touch {once}; echo '{first}'")
    seen = list(jobs.follow([1, 2], 0.01))
    assert [job.state for job in seen[0].values()] == ["COMPLETED", "RUNNING"]
    assert [job.state for job in seen[-1].values()] == ["COMPLETED", "FAILED"]


def test_a_controller_that_does_not_answer_is_waited_for_and_then_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    stub(tmp_path, "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    monkeypatch.setattr(jobs, "PATIENCE", 0.2)
    seen: list[dict[int, jobs.Job]] = []
    with pytest.raises(ClusterError) as caught:
        seen.extend(jobs.follow([7, 8], 0.02))
    assert seen[0] == {7: jobs.Job("PENDING"), 8: jobs.Job("PENDING")}
    assert len(seen) > 1
    assert "Unable to contact slurm controller" in str(caught.value)
    assert "The jobs 7, 8 may still be running: see squeue, end them with scancel" in str(caught.value)


def test_resources_become_words_for_sbatch() -> None:
    settings = SlurmSettings(partition="gpu", time="2:00:00", options=["--constraint=a100"])
    resources = ResourceSettings(cpu_count=3.5, memory="2GiB", gpu_count=2, gpu_class="a100")
    assert settings.words(resources) == [
        "--partition=gpu", "--time=2:00:00", "--cpus-per-task=4", "--mem=2048M", "--gres=gpu:a100:2",
        "--constraint=a100",
    ]  # fmt: skip
    assert SlurmSettings().words(ResourceSettings()) == []


@pytest.mark.parametrize("flavor", [SlurmOrchestratorFlavor(), SlurmStepOperatorFlavor()])
def test_a_step_can_set_nothing_that_the_component_does_not_know(
    flavor: SlurmOrchestratorFlavor | SlurmStepOperatorFlavor,
) -> None:
    assert flavor.name == "slurm"
    assert set(SlurmSettings.model_fields) <= set(flavor.config_class.model_fields)


def test_the_evidence_is_the_traceback_or_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "fine_tune.log"
    assert traceback_or_log(None, log) == f"It has not written its log, {log}."
    log.write_text("".join(f"line {i}\n" for i in range(100)))
    lines = traceback_or_log(None, log).splitlines()
    assert lines[0] == f"The end of {log}:"
    assert lines[1:] == [f"  line {i}" for i in range(80, 100)]
    told = ExceptionInfo(traceback="Traceback ...\nValueError: no\n")
    assert traceback_or_log(told, log) == f"Traceback ...\nValueError: no\nIts log: {log}"
