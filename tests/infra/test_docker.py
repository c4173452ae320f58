"""The image's recipe, as far as it can be judged without building it: no engine is needed here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from steps.core.system.code import ROOT
from steps.runtime.phase import all_phases

DOCKERFILE = ROOT / "infra/docker/Dockerfile"
IGNORE = (ROOT / ".dockerignore").read_text().splitlines()
LINES = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text()).splitlines()


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in LINES if line.startswith(f"{name} ")]


def copied() -> list[str]:
    words = [line.split() for line in instructions("COPY")]
    return [source.rstrip("/") for line in words for source in line[:-1] if not source.startswith("--")]


def sent() -> set[str]:
    """What .dockerignore leaves in the build context."""
    assert IGNORE[1] == "*"
    return {line.removeprefix("!") for line in IGNORE if line.startswith("!")}


def test_the_linter_has_nothing_to_say() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_would_say_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        DOCKERFILE.read_text().replace("python:3.11-slim-bookworm", "python")
    )
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, tmp_path / "Dockerfile"], capture_output=True, text=True)
    assert "DL3006" in done.stdout


def test_what_is_copied_exists_and_is_sent_to_the_build() -> None:
    assert copied()
    for source in copied():
        assert (ROOT / source).exists(), source
    assert set(copied()) == sent()


def test_every_file_that_a_phase_depends_on_is_in_the_image() -> None:
    needed = {file for phase in all_phases() for file in phase.code}
    assert {file.split("/")[0] for file in needed} <= set(copied())


def test_every_package_is_held_by_the_constraints() -> None:
    installs = [line for line in LINES if "pip install" in line]
    assert installs
    assert all("--constraint constraints.txt" in line for line in installs)


def test_it_ends_as_a_user_without_privileges_who_owns_what_the_run_writes_to() -> None:
    (user,) = instructions("USER")
    assert user.isdigit()
    assert int(user) > 0
    assert all(line.startswith(f"--chown={user}:{user} ") for line in instructions("COPY"))
    assert f"chown -R {user}:{user} /app" in " ".join(instructions("RUN"))


def test_the_python_is_the_one_that_the_project_asks_for() -> None:
    (base,) = instructions("FROM")
    assert base.startswith("python:3.11-")
    assert ">=3.11,<3.14" in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(("device", "words"), [("cpu", "whl/cpu"), ("cuda", ""), ("tpu", None)])
def test_the_device_chooses_where_torch_comes_from(device: str, words: str | None, tmp_path: Path) -> None:
    """The RUN line itself, with a pip that says what it was told."""
    (line,) = [line for line in instructions("RUN") if "pip install" in line]
    for name, text in {"pip": 'echo "$@"', "python": "true"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env={"PATH": path, "DEVICE": device}, capture_output=True, text=True
    )
    if words is None:
        assert done.returncode == 1
        assert "DEVICE is tpu, expected cpu or cuda" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert ("--extra-index-url" in done.stdout) == bool(words)
        assert words in done.stdout
        assert "--constraint constraints.txt --requirement requirements.txt" in done.stdout
