"""The pipeline on two real Slurm nodes: equal digests, and what becomes of it when things go wrong.

The tests share two nodes and one project, and build on each other in the order in which they stand.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML

from pipelines import jobs
from steps import PHASES
from steps.core.system.errors import ClusterError
from steps.runtime.phase import load_phase
from tests.clone import Clone
from tests.pipelines.slurm_nodes import Nodes, until
from tests.pipelines.slurm_runs import RUN, Started, apply, ask, block, log_of, of, running

pytestmark = pytest.mark.services

SEARCH = PHASES.index("search_lr_ratio")
BEFORE, AFTER = PHASES[:SEARCH], PHASES[SEARCH:]
ON_GPU = ("cache_features", "cache_prefix", "search_lr_ratio", "fine_tune", "distill", "evaluate")


def test_jobs_run_in_the_order_of_their_dependencies_and_end_with_them(nodes: Nodes, tmp_path: Path) -> None:
    os.environ.update(nodes.environment)
    outside = {**os.environ, "TOKEN": "not in any script"}
    log = tmp_path / "logs" / "a.log"
    first = jobs.submit("first", ["sh", "-c", "echo $TOKEN; sleep 1"], log, [], outside)
    second = jobs.submit("second", ["sh", "-c", "exit 3"], tmp_path / "b.log", [], outside, [first])
    third = jobs.submit("third", ["true"], tmp_path / "c.log", ["--gres=gpu:1"], outside, [second])
    seen = list(jobs.follow([first, second, third], 0.2))
    assert {str(job) for states in seen for job in states.values()} >= {
        "pending (Dependency)",
        "running on n2",
    }
    assert [seen[-1][job].state for job in (first, second, third)] == ["COMPLETED", "FAILED", "CANCELLED"]
    assert log.read_text() == "not in any script\n"
    assert jobs.query_jobs([first, 10**6])[10**6] == jobs.Job("GONE")
    assert jobs.query_jobs([10**6]) == {10**6: jobs.Job("GONE")}
    with pytest.raises(ClusterError, match="--gres=gpu:moon:1") as caught:
        jobs.submit("never", ["true"], log, ["--gres=gpu:moon:1"], outside)
    assert "Requested node configuration is not available" in str(caught.value)
    long = jobs.submit("long", ["sleep", "100"], log, ["--gres=gpu:1"], outside)
    until(lambda: jobs.query_jobs([long])[long] == jobs.Job("RUNNING", "None", "n1"), 20)
    jobs.cancel([long, first])
    until(lambda: jobs.query_jobs([long])[long].ended, 20)
    assert not [line for line in nodes.processes() if "sleep 100" in line]


def test_a_lost_node_fails_the_run_with_a_message_and_the_next_start_completes_it(
    clone: Clone, nodes: Nodes, digests: dict[str, str]
) -> None:
    started = Started(clone, nodes)
    until(lambda: "has started" in log_of(clone, "search_lr_ratio"), 600)
    node = nodes.queue()["search_lr_ratio"][1]
    nodes.do("kill", node)
    assert started.end(400) == 1
    said = block(started.said())
    assert said.startswith("ClusterError\nsearch_lr_ratio: job ")
    assert f"node_fail on {node}" in said
    assert "Start the same command again: phases that have finished are reused." in said
    lost = ask(clone)
    assert lost["status"] == "failed"
    assert lost["steps"]["warm_up_head"] == "completed"
    assert lost["steps"]["search_lr_ratio"] == "failed"
    assert "fine_tune" not in lost["steps"]
    nodes.do("node", node)

    started = Started(clone, nodes)
    assert started.end(900) == 0, started.said()[-3000:]
    last = started.said().rstrip().splitlines()[-1]
    assert last.startswith("report: ")
    report = json.loads((clone.folder / last.removeprefix("report: ")).with_suffix(".json").read_text())
    assert [row["phase"] for row in report["phases"] if row["reused"]] == list(BEFORE)
    assert of(report) == digests


def test_every_phase_was_a_job_on_the_node_that_has_what_it_needs(clone: Clone, nodes: Nodes) -> None:
    queue = nodes.queue()
    for phase in PHASES:
        assert queue[phase] == ("COMPLETED", "n1" if phase in ON_GPU else "n2"), phase


def test_the_artifacts_are_whole_and_the_logs_of_the_jobs_are_in_the_run(clone: Clone) -> None:
    run = ask(clone)
    assert run["status"] == "completed"
    for name, ((folder, digest),) in run["outputs"].items():
        kind = load_phase(name).function.__annotations__["return"].__origin__
        assert kind.load(Path(folder)).digest == digest
    assert any("fine_tune: " in text for text in run["logs"]["fine_tune"])


def test_mlflow_has_one_run_per_pipeline_run_though_every_phase_was_a_process(clone: Clone) -> None:
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=500)
    name = ask(clone)["name"]
    (parent,) = [run for run in runs if run.data.tags.get("headstart.run") == name]
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(run.info.run_name for run in children) == sorted(AFTER)
    tags = {phase: parent.data.tags[f"phase.{phase}"] for phase in PHASES}
    assert tags == {phase: "ran" if phase in AFTER else "reused" for phase in PHASES}


def test_a_run_in_which_nothing_has_changed_sends_no_job(clone: Clone, nodes: Nodes) -> None:
    before = len(nodes.queue()), ask(clone)["name"]
    started = Started(clone, nodes)
    assert started.end(400) == 0
    assert "report: " in started.said()
    assert "job " not in started.said()
    assert (len(nodes.queue()), ask(clone)["name"]) != before
    assert len(nodes.queue()) == before[0]


def test_workers_of_the_search_share_its_trials_on_both_nodes(clone: Clone, nodes: Nodes) -> None:
    artifacts = clone.folder / "artifacts"
    artifacts.mkdir()
    for phase, ((folder, _),) in ask(clone)["outputs"].items():
        (artifacts / load_phase(phase).output).symlink_to(folder)
    clone.set_params(search_lr_ratio={"trials": 6, "startup_trials": 6})
    environment = {**clone.environment(), **nodes.environment}
    words = ["sbatch", "--wait", "--array=1-2", "--cpus-per-task=5", "--export=ALL"]
    done = subprocess.run(
        [*words, "infra/slurm/search_workers.sh"],
        cwd=clone.folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    logs = [log.read_text() for log in sorted((clone.folder / ".headstart/slurm").glob("search-*.log"))]
    assert done.returncode == 0, done.stderr + "".join(logs)
    assert len(logs) == 2
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=500)
    (parent,) = [run for run in runs if run.info.run_name.startswith("search-workers-")]
    workers = [r.info.run_id for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    trials = [r for r in runs if r.data.tags.get("mlflow.parentRunId") in workers]
    assert len(workers) == 2
    assert {r.data.tags["mlflow.parentRunId"] for r in trials} == set(workers), "both took part"
    names = [r.info.run_name for r in trials if r.data.tags["study"] == "discriminative"]
    assert sorted(names) == [f"discriminative-{slot}" for slot in range(6)]


def test_the_phase_concludes_from_what_the_workers_have_found(clone: Clone) -> None:
    (clone.folder / "artifacts/learning_rates").unlink()
    done = clone.run("python", "-m", "steps.search_lr_ratio")
    assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=500)
    (parent,) = [run for run in runs if run.info.run_name.startswith("by-hand-")]
    (nested,) = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert not [r for r in runs if r.data.tags.get("mlflow.parentRunId") == nested.info.run_id], (
        "no new trial"
    )
    assert (clone.folder / "artifacts/learning_rates/artifact.json").is_file()
    clone.set_params(search_lr_ratio={"trials": 2, "startup_trials": 1})


def test_ctrl_c_cancels_the_jobs_and_stops_the_run(clone: Clone, nodes: Nodes) -> None:
    clone.set_params(evaluate={"mistakes": 4})
    before = log_of(clone, "evaluate").count("has started")
    started = Started(clone, nodes)
    until(lambda: log_of(clone, "evaluate").count("has started") > before, 400)
    started.process.send_signal(signal.SIGINT)
    assert started.end(400) == 1
    run = ask(clone)
    assert block(started.said()) == f"ClusterError\ninterrupted; the jobs of {run['name']} are cancelled"
    assert {nodes.queue()[phase][0] for phase in ("evaluate", "promote")} == {"CANCELLED"}
    assert run["status"] == "stopped"
    assert run["steps"]["evaluate"] == "stopped"


def test_a_run_can_be_stopped_from_elsewhere(clone: Clone, nodes: Nodes) -> None:
    clone.set_params(search_lr_ratio={"trials": 3})
    started = Started(clone, nodes)
    until(lambda: running(nodes, "search_lr_ratio"), 400)
    name = ask(clone)["name"]
    done = clone.run("zenml", "pipeline", "runs", "stop", name, "--yes", **nodes.environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert started.end(400) == 1
    assert f"{name} was stopped" in block(started.said())
    assert ask(clone)["status"] == "stopped"
    assert {nodes.queue()[phase][0] for phase in AFTER} == {"CANCELLED"}
    clone.set_params(search_lr_ratio={"trials": 2})


def test_what_a_phase_says_of_bad_data_reaches_the_user_as_one_block(clone: Clone, nodes: Nodes) -> None:
    clone.set_params(ingest_data={"path": "nowhere"})
    started = Started(clone, nodes)
    assert started.end(400) == 1
    said = block(started.said())
    assert said.startswith("DataError\n")
    assert "nowhere" in said
    run = ask(clone)
    assert run["status"] == "failed"
    assert set(run["steps"]) == {"ingest_data"}
    assert nodes.queue()["promote"][0] == "CANCELLED"
    clone.set_params(ingest_data={"path": "images"})


def test_slurm_says_that_it_has_no_scheduler_of_zenmls(clone: Clone) -> None:
    for name, said in (("slurm", "headstart-slurm has no scheduler"), ("vertex", "make stack NAME=vertex")):
        words = ("infra.cloud_schedule", name, "pipelines.finetune.finetune_pipeline", "--cron", "0 3 * * *")
        done = clone.run("python", "-m", *words)
        assert done.returncode == 1
        assert said in done.stderr.splitlines()[-1]


def test_the_step_operator_sends_single_phases_from_the_local_orchestrator(
    clone: Clone, nodes: Nodes
) -> None:
    apply(clone, "local-slurm", nodes)
    stack = (
        "zenml",
        "stack",
        "register",
        "mixed",
        "-o",
        "headstart-local-slurm",
        "-s",
        "headstart-local-slurm",
    )
    # the files of the other stack, so that what is done is reused
    assert clone.run(*stack, "-a", "headstart-slurm", "--set").returncode == 0
    clone.set_params(evaluate={"mistakes": 1})
    before = nodes.queue()
    done = clone.run(*RUN[:4], "--config", "infra/configs/local-slurm.yaml", **nodes.environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.rstrip().splitlines()[-1].startswith("report: ")
    assert before["evaluate"][0] == "CANCELLED"
    assert nodes.queue()["evaluate"] == ("COMPLETED", "n1")
    assert nodes.queue()["promote"] == before["promote"], "promote ran here"
    assert set(ask(clone)["steps"].values()) == {"completed", "cached"}


def test_what_went_wrong_reaches_the_user_through_the_step_operator_too(clone: Clone, nodes: Nodes) -> None:
    path = clone.folder / "infra/configs/local-slurm.yaml"
    config = YAML(typ="safe").load(path)
    for settings, path_of_data, expected in (
        ({"resources": {"cpu_count": 1}}, "nowhere", ("DataError", "nowhere")),
        (
            {"step_operator.slurm": {"time": "never"}},
            "images",
            ("ClusterError", "Invalid --time specification"),
        ),
    ):
        config["steps"]["ingest_data"] = {"step_operator": True, "settings": settings, "enable_cache": False}
        path.write_text(json.dumps(config))  # quoted: ZenML would read 12:00:00 as a number
        clone.set_params(ingest_data={"path": path_of_data})
        done = clone.run(*RUN[:4], "--config", "infra/configs/local-slurm.yaml", **nodes.environment)
        assert done.returncode == 1
        said = block(done.stderr)
        assert said.startswith(f"{expected[0]}\n")
        assert expected[1] in said
