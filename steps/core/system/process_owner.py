"""Which process does something, and whether it still lives; told by what no clock can change."""

import os
import socket
from functools import cache
from pathlib import Path

PROC = Path("/proc")


def process_name() -> str:
    """Name this process so that it can be told from any other: place, boot, number, start."""
    return process_name_of(os.getpid())


def process_name_of(pid: int) -> str:
    """Name a process of this machine; its start counts from the boot, so a clock that jumps is no matter."""
    return f"{pid_namespace()} {boot_id()} {pid} {start_time(pid)}"


def is_alive(name: str) -> bool | None:
    """Say whether the process of that name lives; None where only another machine could tell."""
    there, _, rest = name.partition(" ")
    if there != pid_namespace():
        return None
    booted, _, own = rest.partition(" ")
    pid, _, start = own.partition(" ")
    return booted == boot_id() and pid.isdigit() and start_time(int(pid)) == start


@cache
def pid_namespace() -> str:
    """Return the host and the namespace in which process numbers mean something."""
    return f"{socket.gethostname()}/{(PROC / 'self/ns/pid').readlink()}"


@cache
def boot_id() -> str:
    """Return what the kernel calls this boot."""
    return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_time(pid: int) -> str | None:
    """Return when a process began, in ticks since the boot; None where there is none, or a dead one."""
    try:
        line = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *facts = line.rpartition(")")[2].split()
    return None if state in "ZX" else facts[18]
