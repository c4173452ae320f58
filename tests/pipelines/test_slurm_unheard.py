"""A node whose slurmd dies alone: its jobs live on, and nobody hears of them.

Whether they end in time, or are given up while they still run beside those that replace them, the
artifacts are those of an undisturbed run.
"""

import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.clone import Clone
from tests.pipelines.slurm_nodes import Nodes, until
from tests.pipelines.slurm_runs import Started, ask, block, log_of, of

pytestmark = [pytest.mark.services, pytest.mark.slow]


def begun(clone: Clone, phase: str) -> int:
    """Return how often a phase has begun, over all runs."""
    return log_of(clone, phase).count("has started")


def process_of(phase: str) -> psutil.Process:
    """Return the process that computes a phase."""
    (found,) = [
        process
        for process in psutil.process_iter(["cmdline"])
        if {"zenml.entrypoints.entrypoint", phase} <= set(process.info["cmdline"] or [])
    ]
    return found


def report_of(clone: Clone, started: Started) -> dict[str, Any]:
    """Return report.json of a run that has ended well."""
    last = started.said().rstrip().splitlines()[-1]
    assert last.startswith("report: "), started.said()[-3000:]
    report: dict[str, Any] = json.loads(
        (clone.folder / last.removeprefix("report: ")).with_suffix(".json").read_text()
    )
    return report


def test_a_job_that_ends_unheard_counts_and_the_next_one_waits_for_its_node(
    clone: Clone, nodes: Nodes, digests: dict[str, str]
) -> None:
    started = Started(clone, nodes)
    until(lambda: begun(clone, "cache_features") > 0, 600)
    assert nodes.queue()["cache_features"] == ("RUNNING", "n1")
    nodes.do("mute", "n1")
    until(lambda: nodes.queue()["warm_up_head"] == ("COMPLETED", "n2"), 120)
    assert nodes.queue()["cache_features"] == ("COMPLETED", "n1")
    until(lambda: "search_lr_ratio: job" in started.said().rpartition("warm_up_head: job")[2], 60)
    assert "ReqNodeNotAvail" in started.said(), "what it waits for is told"
    assert started.process.poll() is None
    nodes.do("node", "n1")
    assert started.end(900) == 0, started.said()[-3000:]
    assert of(report_of(clone, started)) == digests


def test_a_job_that_is_given_up_and_runs_on_beside_its_successor_changes_nothing(
    clone: Clone, nodes: Nodes, digests: dict[str, str]
) -> None:
    clone.set_params(warm_up_head={"samples": 3999})  # to be done again, and to come to the same
    before = begun(clone, "warm_up_head")
    started = Started(clone, nodes)
    until(lambda: begun(clone, "warm_up_head") > before, 600)
    orphan = process_of("warm_up_head")
    orphan.suspend()
    nodes.do("mute", "n2")
    assert started.end(200) == 1
    said = block(started.said())
    assert "node_fail on n2" in said
    assert "Start the same command again: phases that have finished are reused." in said
    lost = ask(clone)
    assert (lost["status"], lost["steps"]["warm_up_head"]) == ("failed", "failed")

    started = Started(clone, nodes)
    until(lambda: begun(clone, "warm_up_head") > before + 1, 200)
    assert orphan.is_running()
    assert nodes.queue()["warm_up_head"][1] == "n1"
    orphan.resume()
    until(lambda: not orphan.is_running(), 200)
    nodes.do("node", "n2")
    assert started.end(900) == 0, started.said()[-3000:]
    assert "IllegalOperationError" in log_of(clone, "warm_up_head"), "ZenML does not hear the dead"
    report = report_of(clone, started)
    reused = {row["phase"] for row in report["phases"] if row["reused"]}
    assert "warm_up_head" not in reused
    assert {"search_lr_ratio", "fine_tune"} <= reused, "what it came to is what the first run had"
    assert of(report) == digests
    assert not list(Path(clone.folder, ".headstart/training").glob(".*"))
