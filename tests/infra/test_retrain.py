"""When a retraining is due, also where clocks change; missed runs are one; a failed one says so."""

import json
import logging
import multiprocessing
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path

import psutil
import pytest

from infra import retrain
from infra.lease import LeaseTaken, lease
from infra.retrain import attempt, is_due, missed, upcoming
from steps.runtime.params import Retraining

ZURICH = Retraining(cron="30 2 * * *", timezone="Europe/Zurich", check_minutes=10)
HOURLY = Retraining(cron="0 * * * *", timezone="Europe/Zurich", check_minutes=10)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "moments"),
    [
        # 02:30 does not exist on 29 March 2026: due when the clocks say 03:30
        ("2026-03-27 12:00", ["2026-03-28 01:30", "2026-03-29 01:30", "2026-03-30 00:30"]),
        # 02:30 comes twice on 25 October 2026: due the first time only
        ("2026-10-23 12:00", ["2026-10-24 00:30", "2026-10-25 00:30", "2026-10-26 01:30"]),
    ],
)
def test_a_daily_schedule_is_due_once_a_day_also_when_the_clocks_change(
    since: str, moments: list[str]
) -> None:
    assert list(islice(upcoming(ZURICH, at(since)), 3)) == [at(moment) for moment in moments]


def test_an_hourly_schedule_never_goes_back_and_never_repeats() -> None:
    for since in ("2026-03-28 22:00", "2026-10-24 22:00"):
        moments = list(islice(upcoming(HOURLY, at(since)), 8))
        assert moments == sorted(set(moments))
        assert moments[0] == at(since) + timedelta(hours=1)
        assert all(gap <= timedelta(hours=2) for gap in gaps(moments))


def gaps(moments: list[datetime]) -> Iterator[timedelta]:
    return (later - sooner for sooner, later in pairwise(moments))


def test_the_zone_decides_when_it_is_two_o_clock() -> None:
    tokyo = Retraining(cron="30 2 * * *", timezone="Asia/Tokyo", check_minutes=10)
    assert next(upcoming(tokyo, at("2026-06-01 12:00"))) == at("2026-06-01 17:30")


def test_due_exactly_at_the_moment_and_not_again_after_it_was_done() -> None:
    done, due = at("2026-06-01 12:00"), at("2026-06-02 00:30")
    assert missed(ZURICH, done, due - timedelta(seconds=1)) == 0
    assert missed(ZURICH, done, due) == 1
    assert missed(ZURICH, due, due + timedelta(hours=23)) == 0


def test_several_missed_runs_are_noticed_and_made_up_for_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "last.json"
    file.write_text(json.dumps({"begun": "2026-06-01T12:00:00+00:00", "exit_code": 0}))
    now = at("2026-06-05 12:00")
    with caplog.at_level(logging.WARNING):
        assert is_due(ZURICH, file, now)
    assert "4 runs were due since 2026-06-01T12:00:00+00:00; running once" in caplog.text
    file.write_text(json.dumps({"begun": now.isoformat(), "exit_code": 0}))
    assert not is_due(ZURICH, file, now + timedelta(minutes=10))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hear what would go to the stack's alerter; that one is asked in the test of the pipeline."""
    messages: list[str] = []
    monkeypatch.setattr(retrain, "alert", messages.append)
    return messages


def command(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program of the name `pipeline` in the place of the pipeline."""
    file = folder / "pipeline"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(retrain, "COMMAND", (str(file),))


@pytest.mark.parametrize(("body", "code"), [("exit 3", 3), ("kill -KILL $$", 137)])
def test_a_failed_run_ends_with_its_exit_code_a_log_line_and_an_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, told: list[str],
    body: str, code: int,
) -> None:  # fmt: skip
    command(tmp_path, body, monkeypatch)
    assert attempt(ZURICH, tmp_path, at("2026-06-05 12:00"), False) == code
    assert "the run that began at 2026-06-05T12:00:00+00:00 failed with exit code" in caplog.text
    assert len(told) == 1
    assert attempt(ZURICH, tmp_path, at("2026-06-05 12:10"), False) == 0, "it is tried when it is due again"


def test_a_good_run_is_recorded_and_its_lease_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    command(tmp_path, "exit 0", monkeypatch)
    assert attempt(ZURICH, tmp_path, at("2026-06-05 12:00"), True) == 0
    assert json.loads((tmp_path / "last.json").read_bytes())["exit_code"] == 0
    assert not (tmp_path / "lease.json").exists()
    assert told == []


def run_for_ever(folder: str) -> None:
    file = Path(folder) / "pipeline"
    retrain.COMMAND = (str(file),)  # type: ignore[assignment]
    attempt(ZURICH, Path(folder), at("2026-06-05 12:00"), True)


def test_a_runner_that_is_killed_takes_its_run_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path, f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 600",
            monkeypatch)  # fmt: skip
    runner = multiprocessing.get_context("forkserver").Process(target=run_for_ever, args=(str(tmp_path),))
    runner.start()
    wait_until((tmp_path / "pid").exists)
    child = psutil.Process(int((tmp_path / "pid").read_text()))
    assert child.is_running()
    runner.kill()
    runner.join()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert not (tmp_path / "last.json").exists(), "it is still due"


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("waited for a minute")


def test_it_does_not_start_beside_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    command(tmp_path, f"touch {tmp_path}/ran", monkeypatch)
    with lease(tmp_path / "lease.json", 60), pytest.raises(LeaseTaken):
        attempt(ZURICH, tmp_path, at("2026-06-05 12:00"), True)
    assert not (tmp_path / "ran").exists()
