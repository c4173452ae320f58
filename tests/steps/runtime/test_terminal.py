"""What a run shows on the terminal: its own lines, and nothing else; bars only where somebody watches."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from steps.artifacts.dataset import Manifest
from steps.artifacts.decision import Decision
from steps.artifacts.features import Features
from steps.artifacts.learning_rates import LearningRates
from steps.artifacts.models import Classifier
from steps.core.system.progress import count, progress, shown_by
from steps.runtime.terminal import duration
from tests.clone import ROOT

RUN = """
import logging, os, subprocess, sys, time, warnings
from steps.core.system.progress import count
from steps.runtime.journal import Facts
from steps.runtime.terminal import phase_bar, terminal

log = logging.getLogger("headstart")
log.setLevel(logging.INFO)
with terminal(("read", "train"), "some-run") as shown:
    print("chatter of a library, postgresql://me:canary@db/x")
    os.write(2, b"chatter from C\\n")
    subprocess.run(["echo", "chatter of a child"])
    warnings.warn("chatter that warns", FutureWarning)
    with phase_bar("read", "run-7"):
        for _ in count(range(3), "reading", 3, "file"):
            time.sleep(0.12)
        log.info("read: %s", Facts({}, {"samples": 3}))
        log.warning("the disk is nearly full")
    shown.show_phase("read", "3 samples", 61.2)
    shown.show_phase("read", "3 samples", 61.2)
    shown.show_phase("train", "accuracy 0.9", None)
    shown.result("report: here")
print("after")
"""


def test_libraries_talk_to_the_log_and_the_phases_to_the_terminal(tmp_path: Path) -> None:
    done = run_in(tmp_path)
    assert done.stdout == "report: here\nafter\n"
    assert done.stderr.splitlines() == [
        "        warning: the disk is nearly full",
        "[ 1/2] read                1:01  3 samples",
        "[ 2/2] train             reused  accuracy 0.9",
    ]
    text = (tmp_path / "logs/run-7.log").read_text()
    for said in ("chatter of a library", "chatter from C", "chatter of a child", "chatter that warns"):
        assert said in text
    assert "canary" not in text
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["run-7.log"], "nothing is left beside it"


def test_a_terminal_shows_a_bar_while_a_phase_runs_and_keeps_its_line(tmp_path: Path) -> None:
    text = on_a_terminal(tmp_path)
    assert "[ 1/2] read: reading" in text
    assert "3/3 files" in text
    assert "chatter" not in text
    assert text.count("3 samples") == 1


def test_the_debug_switch_redirects_nothing(tmp_path: Path) -> None:
    script = 'from steps.runtime.terminal import terminal\nwith terminal((), "r"): print("seen")'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HEADSTART_DEBUG": "1"}
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "seen\n"


def test_an_error_reaches_the_terminal_after_what_was_printed_went_to_the_log(tmp_path: Path) -> None:
    script = """
from steps.runtime.terminal import terminal
with terminal((), "r"):
    print("chatter")
    raise SystemExit("what was found, and what to do")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "what was found, and what to do\n")
    assert "chatter" in (tmp_path / "logs/r.log").read_text()


def test_progress_is_told_to_the_innermost_display_and_to_none_where_it_is_silent() -> None:
    told: list[tuple[str, int]] = []

    class Display:
        def work(self, what: str, total: int, unit: str, done: int) -> "Told":
            told.append((what, done))
            return Told()

    class Told:
        def __enter__(self):  # type: ignore[no-untyped-def]
            return lambda number: told.append(("more", number))

        def __exit__(self, *error: object) -> None:
            told.append(("end", 0))

    with shown_by(Display()):
        assert list(count("ab", "reading", 2, "file", done=1)) == ["a", "b"]
        with progress("other", 5, "file", silent=True) as advance:
            advance(5)
    assert told == [("reading", 1), ("more", 1), ("more", 1), ("end", 0)]


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (59.96, "1:00"), (7325, "2:02:05")])
def test_a_duration_reads_as_people_write_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_headline_in_words_is_a_sentence_that_a_person_can_use() -> None:
    counts = {"samples": 90, "classes": 3, "train": 50, "val": 14, "test": 26}
    assert Manifest.in_words(counts) == (
        "90 samples in 3 classes: 50 to train on, 14 for validation, 26 for the test"
    )
    head = {"val_accuracy": 0.9, "val_low": 0.85, "val_high": 0.95, "val_samples": 120.0, "epochs": 9}
    assert Classifier.in_words(head) == (
        "a first model: accuracy 0.900 (95 % interval 0.850 to 0.950) on 120 validation samples"
    )
    assert Decision.in_words({"verdict": "promoted", "gates": "7/7"}) == "promoted: passed 7 of 7 gates"
    assert LearningRates.in_words({"skipped": "too few samples"}) == "skipped: too few samples"
    known = {"samples": 9, "megabytes": 0.1, "views": 4, "boundary": "3 of 6"}
    found = Features.in_words({**known, "symmetries": "horizontal flips"})
    assert found.endswith("0.1 MB kept; training sees horizontal flips")


def run_in(folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    words = [sys.executable, "-c", RUN]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def on_a_terminal(folder: Path) -> str:
    """Run it with a pseudo-terminal as its three streams; return all that was written there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "TERM": "xterm"}
    words = [sys.executable, "-c", RUN]
    with subprocess.Popen(words, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        parts = []
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            parts.append(part)
    os.close(ours)
    return b"".join(parts).decode()
