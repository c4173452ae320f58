"""`headstart`: one run as a stranger types it, from elsewhere, with spaces in the paths; and the commands."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from infra import cli, doctor
from tests.clone import ROOT, Clone, make_clone

COMMANDS = ("run", "retrain", "report", "serve", "rollback", "doctor", "demo", "stack")


Ran = tuple[Clone, "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ran]:
    """Run the tiny project, which is no git repository, on `~/my data` from a third folder."""
    home = tmp_path_factory.mktemp("some home")
    clone = make_clone(home / "the project")
    data = home / "my data"
    shutil.move(clone.folder / "images", data)
    lock(data, True)
    (home / "elsewhere").mkdir()
    yield clone, headstart(clone, home / "elsewhere", "run", "~/my data")
    lock(data, False)


def headstart(clone: Clone, where: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Type a command in a folder."""
    own = {"HOME": str(clone.folder.parent), "GIT_CEILING_DIRECTORIES": str(clone.folder.parent)}
    command = [sys.executable, "-m", "infra", *words]
    environment = {**clone.environment(), **own}
    return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)


def lock(folder: Path, locked: bool) -> None:
    """Take away, or give back, the right to write into a folder and those in it."""
    for path in (folder, *folder.iterdir()):
        path.chmod(0o555 if locked else 0o755)


def test_a_run_from_another_folder_on_a_path_with_spaces_ends_with_its_report(place: Ran) -> None:
    clone, done = place
    assert done.returncode == 0, done.stdout + done.stderr
    page = Path(done.stdout.splitlines()[-1].removeprefix("report: "))
    assert (clone.folder / page).is_file()
    assert list((clone.folder.parent / "elsewhere").iterdir()) == [], "nothing is left where it was typed"


def test_the_terminal_has_the_phases_the_verdict_and_what_comes_next(place: Ran) -> None:
    from steps import PHASES

    _, done = place
    lines = (done.stderr + done.stdout).splitlines()
    assert len(lines) <= 40
    shown = [name for line in lines for name in PHASES if re.match(rf"\[ ?\d+/{len(PHASES)}\] {name} ", line)]
    assert shown == list(PHASES)
    text = done.stderr + done.stdout
    for said in ("a first model: accuracy", "95 % interval", "test samples:", "model:", "log:", "headstart "):
        assert said in text
    assert "my data version 1" in text


def test_without_a_terminal_there_is_no_colour_and_no_moving_bar(place: Ran) -> None:
    _, done = place
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr


def test_what_libraries_said_is_in_the_log(place: Ran) -> None:
    clone, done = place
    log_file = next(line for line in done.stdout.splitlines() if line.startswith("log:"))[4:].strip()
    text = (clone.folder / log_file).read_text()
    assert "what libraries printed" in text
    assert "fine_tune" in text


def test_a_read_only_folder_of_data_stays_as_it_was(place: Ran) -> None:
    clone, _ = place
    data = clone.folder.parent / "my data"
    assert sorted(path.name for path in data.iterdir()) == ["blue", "green", "red"]
    assert {path.suffix for path in data.rglob("*") if path.is_file()} == {".png"}


def test_again_by_a_relative_path_everything_is_reused(place: Ran) -> None:
    clone, _ = place
    done = headstart(clone, clone.folder.parent / "elsewhere", "run", "../my data")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count(" reused ") == len(done.stderr.splitlines()) > 9


def test_report_names_the_newest_page(place: Ran) -> None:
    clone, _ = place
    done = headstart(clone, clone.folder.parent / "elsewhere", "report")
    newest = max((clone.folder / "reports").glob("*/report.html"), key=lambda page: page.stat().st_mtime)
    assert done.stdout.strip() == str(newest)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("data", "/home/me/data"),
        ("../a b", "/home/a b"),
        ("~/x", f"{Path.home()}/x"),
        ("/abs", "/abs"),
        ("s3://bucket/leaves", "s3://bucket/leaves"),
        ("hub:beans", "hub:beans"),
    ],
)
def test_a_path_means_what_it_means_where_it_was_typed(typed: str, meant: str) -> None:
    assert cli.address(typed, Path("/home/me")) == meant


def test_help_lists_every_command_with_a_sentence_and_a_way_to_begin() -> None:
    done = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "100"})
    assert done.exit_code == 0
    for name in COMMANDS:
        assert re.search(rf"^\W*{name}\s+\w.+", done.stdout, re.MULTILINE), name
    assert "headstart run FOLDER" in done.stdout


def test_the_entry_point_is_the_command_line() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"headstart": "infra.cli:main"}
    assert callable(cli.main)


def test_doctor_finds_a_taken_port_a_missing_package_and_an_old_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        taken, free = server.getsockname()[1], doctor.can_listen
        assert not doctor.can_listen(taken)
        monkeypatch.setattr(doctor, "PORTS", {taken: "headstart serve"})
        assert doctor.ports().verdict == doctor.WARNING
        assert str(taken) in doctor.ports().found
    assert free(taken)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nrequires-python = ">=3.99"\n'
        'dependencies = ["numpy>=1", "no-such-package>=2", "pandas>=99"]\n'
    )
    found = {check.name: check for check in doctor.examine(tmp_path)}
    assert found["python"].verdict == doctor.BAD
    assert ">=3.99" in found["python"].found
    assert "no-such-package>=2, pandas>=99" in found["packages"].found
    assert found["git"].verdict == doctor.WARNING, "a downloaded archive has no commit, and that is no fault"
    assert doctor.report_on(tmp_path) == 1


def test_the_pythons_that_are_promised_are_those_that_are_tried(tmp_path: Path) -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    jobs = YAML(typ="safe").load(ROOT / ".github/workflows/test.yml")["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python-version"] == ["3.11", "3.12", "3.13"]
    assert wanted == ">=3.11,<3.14"


def test_make_says_which_python_is_missing(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    old = tmp_path / "python3.8"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.20\nexit 1\n')
    old.chmod(0o755)
    words = ["make", "install", f"PYTHON={old}"]
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert "Python 3.8.20" in done.stderr
    assert not (tmp_path / ".venv").exists()
