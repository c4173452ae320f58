"""Both engines killed everywhere: the whole of it takes its time; test_engines.py has a handful of kills."""

import shutil
from pathlib import Path

import pytest

from steps import PHASES
from tests.bench.kill_tests import LONG, MANY, chaos, digests, finish, project, table
from tests.clone import Clone

FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


@pytest.mark.slow
def test_forty_kills_and_more_lose_nothing_and_change_nothing(tmp_path: Path) -> None:
    found = chaos(tmp_path, MANY)
    print(table(found["rows"]))  # `pytest -rP` shows it
    assert len(found["kills"]) >= 40
    assert {(row["engine"], row["phase"]) for row in found["rows"] if row["kills"]} == {
        (engine, phase) for engine in ("zenml", "dvc") for phase in PHASES
    }
    assert all(row["equal"] for row in found["rows"])
    assert all(row["lost"] <= 1 for row in found["rows"])
    assert {row["phase"] for row in found["rows"] if row["unit"] != "phase"} == set(LONG)


@pytest.mark.slow
def test_two_runs_at_once_in_one_folder_both_end_with_the_same_digests(tmp_path: Path) -> None:
    clone = project(tmp_path / "project", "zenml")
    assert clone.run("zenml", "stack", "list").returncode == 0  # its database is made once
    words = ("zenml", "pipeline", "run", "finetune_pipeline")
    first = clone.start(*words)
    second = clone.run(*words)
    assert second.returncode == 0, second.stderr[-3000:]
    assert first.wait() == 0, (clone.folder / "output.txt").read_text()[-3000:]
    reports = sorted(clone.folder.glob("reports/*"))
    assert len(reports) == 2
    one = digests(clone, "zenml")
    shutil.rmtree(max(reports, key=lambda path: path.stat().st_mtime))
    assert digests(clone, "zenml") == one


@pytest.mark.slow
@pytest.mark.skipif(FAKETIME is None, reason="needs Debian's libfaketime")
def test_a_clock_that_jumps_back_and_forth_changes_nothing(tmp_path: Path) -> None:
    calm, wild = (project(tmp_path / name, "dvc") for name in ("calm", "wild"))
    finish(calm, "dvc")
    for number, phase in enumerate(PHASES):
        jump(wild, phase, "-2d" if number % 2 else "+3d")
    assert digests(wild, "dvc") == digests(calm, "dvc")


def jump(clone: Clone, phase: str, by: str) -> None:
    """Run a phase while the clock says something else."""
    clock = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": by, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    done = clone.run("python", "-m", f"steps.{phase}", **clock)
    assert done.returncode == 0, done.stderr[-3000:]
