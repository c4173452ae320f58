"""One owner at a time; the dead are succeeded, the living are not."""

import json
import logging
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from infra.lease import LeaseTaken, lease
from steps.core.system.process_owner import process_name

FRESH = multiprocessing.get_context("forkserver")


def hold(path: str, ready: Any) -> None:
    with lease(Path(path), 60):
        ready.set()
        time.sleep(600)


def test_two_never_hold_it_at_once_and_the_second_is_told_who_does(tmp_path: Path) -> None:
    path, ready = tmp_path / "lease.json", FRESH.Event()
    other = FRESH.Process(target=hold, args=(str(path), ready))
    other.start()
    try:
        assert ready.wait(60)
        told = f"held by process {other.pid} on {socket.gethostname()}"
        with pytest.raises(LeaseTaken, match=told), lease(path, 60):
            raise AssertionError("never entered")
        assert path.is_file(), "the refused one leaves it to its owner"
    finally:
        other.kill()
        other.join()


def test_a_dead_owner_is_succeeded_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, ready = tmp_path / "lease.json", FRESH.Event()
    other = FRESH.Process(target=hold, args=(str(path), ready))
    other.start()
    assert ready.wait(60)
    assert other.pid
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with caplog.at_level(logging.WARNING), lease(path, 60):
        assert json.loads(path.read_bytes())["owner"] == process_name()
    assert f"taking over from process {other.pid}" in caplog.text
    assert not path.exists()


@pytest.mark.parametrize(("left", "free"), [(60.0, False), (-1.0, True)])
def test_of_another_machine_the_expiry_counts(tmp_path: Path, left: float, free: bool) -> None:
    path = tmp_path / "lease.json"
    path.write_text(json.dumps({"owner": "far/pid:[1] boot 1 7", "until": time.time() + left}))
    if free:
        with lease(path, 60):
            assert json.loads(path.read_bytes())["owner"] == process_name()
    else:
        with pytest.raises(LeaseTaken, match="process 1 on far"), lease(path, 60):
            raise AssertionError("never entered")


def test_prolonging_moves_the_expiry_and_notices_that_it_was_lost(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with lease(path, 60) as renew:
        before = json.loads(path.read_bytes())
        renew()
        after = json.loads(path.read_bytes())
        assert after["until"] > before["until"]
        thief = {**after, "owner": "far/pid:[1] boot 1 7"}
        path.write_text(json.dumps(thief))
        with pytest.raises(LeaseTaken, match="was taken over by"):
            renew()
    assert json.loads(path.read_bytes()) == thief, "who lost it does not take it away"
