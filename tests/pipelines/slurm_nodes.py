"""Two real nodes on loopback for the tests, and an end that leaves nothing behind."""

import os
import random
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from steps.core.system.code import ROOT

SCRIPT = ROOT / "infra/local-slurm.sh"
ROOT_RIGHTS = [] if os.geteuid() == 0 else ["sudo", "--preserve-env"]


@dataclass(frozen=True)
class Nodes:
    """The cluster of infra/local-slurm.sh in one folder."""

    folder: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to find this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def do(self, action: str, *words: str) -> None:
        """Start, stop, kill a node, bring it back."""
        log = self.folder.with_suffix(".log")
        own = {**os.environ, "HEADSTART_SLURM_PORT": str(self.port)}
        with log.open("w") as out:  # no pipe, which the daemons would hold open
            done = subprocess.run(
                [*ROOT_RIGHTS, SCRIPT, action, self.folder, *words],
                stdout=out,
                stderr=out,
                env=own,
                check=False,
                timeout=240,
            )
        assert done.returncode == 0, log.read_text()

    def queue(self) -> dict[str, tuple[str, str]]:
        """Return state and node of every job that Slurm remembers, by name; the latest of a name."""
        done = subprocess.run(
            ["squeue", "--noheader", "--states=all", "--sort=i", "--format=%j|%T|%N"],
            env={**os.environ, **self.environment}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        rows = [line.split("|") for line in done.stdout.splitlines()]
        return {name: (state, node) for name, state, node in rows}

    def processes(self) -> list[str]:
        """Return the command lines that belong to this cluster."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            line = " ".join(process.info["cmdline"] or [])
            if str(self.folder) in line and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(line)
        return found


def free_port() -> int:
    """Return the first of three ports that nobody listens on."""
    while True:
        first = random.randrange(20000, 30000)
        try:
            for port in range(first, first + 3):
                with socket.socket() as tried:
                    tried.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait for something; fail if it does not come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.3)
