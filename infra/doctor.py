"""Is this machine able? Each check says what was found and, where that is too little, what to do."""

import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from steps.runtime.scratch import scratch

GOOD, WARNING, BAD = "ok", "careful", "missing"
DISK_GB, MEMORY_GB = 5.0, 4.0
PORTS = {8000: "headstart serve", 5000: "mlflow ui", 8237: "zenml login --local"}


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found, and whether that is enough."""

    name: str
    verdict: str
    found: str


def report_on(project: Path) -> int:
    """Print a line for every check; return 1 if the pipeline cannot run here, else 0."""
    from rich.console import Console

    console, colours = Console(), {GOOD: "green", WARNING: "yellow", BAD: "red"}
    found = list(examine(project))
    for check in found:
        console.print(f"{check.verdict:<8}", style=colours[check.verdict], end="")
        console.print(f"{check.name:<10} {check.found}", markup=False, highlight=False, soft_wrap=True)
    return int(any(check.verdict == BAD for check in found))


def examine(project: Path) -> Iterator[Check]:
    """Yield what every check finds.

    Args:
        project: The folder of params.yaml, where reports, logs and the registry are written.
    """
    yield python_version(project)
    yield packages(project)
    yield disk(project)
    yield memory()
    yield cores()
    yield gpu()
    yield ports()
    yield git(project)


def python_version(project: Path) -> Check:
    """Hold this Python to `requires-python` of pyproject.toml."""
    wanted, mine = declared(project)[0], platform.python_version()
    able = SpecifierSet(wanted).contains(mine)
    advice = "" if able else f": headstart needs {wanted}; make install PYTHON=python3.12, say"
    return Check("python", GOOD if able else BAD, f"{mine}{advice}")


def packages(project: Path) -> Check:
    """See that every package that pyproject.toml asks for is installed, new enough."""
    wanted = declared(project)[1]
    if wrong := [str(one) for one in wanted if lacks(one)]:
        return Check("packages", BAD, f"not installed, or too old: {', '.join(wrong)}: make install")
    return Check("packages", GOOD, f"all {len(wanted)} that headstart asks for")


def lacks(wanted: Requirement) -> bool:
    """Say whether a package is missing or of a version that does not do."""
    try:
        return not wanted.specifier.contains(importlib.metadata.version(wanted.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return True


def declared(project: Path) -> tuple[str, list[Requirement]]:
    """Return the Python and the packages that pyproject.toml asks for, or the installed headstart did."""
    if (file := project / "pyproject.toml").is_file():
        table = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        python, asked = table["requires-python"], table["dependencies"]
    else:
        own = importlib.metadata.distribution("headstart")
        python, asked = own.metadata["Requires-Python"], own.requires or []
    needed = (one for one in map(Requirement, asked) if not one.marker or one.marker.evaluate({"extra": ""}))
    return python, list(needed)


def disk(project: Path) -> Check:
    """Look at the free room where the run writes, and whether it may write there."""
    places = {"reports": project, "scratch": existing(scratch())}
    free = {name: shutil.disk_usage(place).free / 1e9 for name, place in places.items()}
    text = ", ".join(f"{gb:.0f} GB free for {name}" for name, gb in free.items())
    if locked := [str(place) for place in places.values() if not os.access(place, os.W_OK)]:
        return Check("disk", BAD, f"{' and '.join(locked)} cannot be written to: copy the project elsewhere")
    if min(free.values()) < DISK_GB:
        return Check(
            "disk", WARNING, f"{text}: for large data sets, let HEADSTART_SCRATCH name a larger disk"
        )
    return Check("disk", GOOD, text)


def existing(folder: Path) -> Path:
    """Return the nearest folder above that is there."""
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def memory() -> Check:
    """Look at the memory that is free now."""
    free = psutil.virtual_memory().available / 1e9
    if free < MEMORY_GB:
        advice = "close other programs, or lower the batch sizes in params.yaml"
        return Check("memory", WARNING, f"{free:.1f} GB free: {advice}")
    return Check("memory", GOOD, f"{free:.1f} GB free")


def cores() -> Check:
    """Count the cores that this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check("cores", GOOD, f"{count} of {psutil.cpu_count() or count}")


def gpu() -> Check:
    """Ask torch for an accelerator; none is needed."""
    try:
        import torch
    except ImportError:
        return Check("gpu", WARNING, "unknown: torch is not installed")
    if torch.cuda.is_available():
        return Check("gpu", GOOD, torch.cuda.get_device_name(0))
    if torch.backends.mps.is_available():
        return Check("gpu", GOOD, "Apple's")
    return Check("gpu", GOOD, "none; the pipeline is made to run without")


def ports() -> Check:
    """Try to listen at the ports that the commands use."""
    taken = [f"{port} ({what})" for port, what in PORTS.items() if not can_listen(port)]
    if taken:
        return Check("ports", WARNING, f"in use: {', '.join(taken)}: pass another with --port")
    return Check("ports", GOOD, f"free: {', '.join(map(str, PORTS))}")


def can_listen(port: int) -> bool:
    """Say whether a server could listen at a port of this machine."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def git(project: Path) -> Check:
    """See whether runs can record the commit of the code."""
    if shutil.which("git") is None:
        return Check("git", WARNING, "not installed: runs will not record the commit of the code")
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=project, capture_output=True, text=True
    )
    if done.returncode != 0:
        return Check("git", WARNING, "no repository here: runs will not record the commit of the code")
    return Check("git", GOOD, f"commit {done.stdout.strip()}")
