"""A lock with an owner and an expiry, in a file that machines may share."""

import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from steps.core.storage import to_json, write_file

log = logging.getLogger("headstart")


class Taken(Exception):
    """Raised when another owner holds the lease."""


@contextmanager
def lease(path: Path, seconds: float) -> Iterator[Callable[[], None]]:
    """Hold the lease at `path`; yields the function that prolongs it by `seconds` from now.

    One whose owner is gone (its process has ended on this machine, or it has expired on another one) is
    taken over, and the log says from whom. An owner that lives here keeps it however late it is.

    Raises:
        Taken: Somebody else holds it; says who, since when, until when.
    """
    me = {"host": socket.gethostname(), "pid": os.getpid(), "begun": psutil.Process().create_time()}

    def prolong() -> None:
        with guarded(path):
            owner = read(path)
            if owner is not None and not same(owner, me):
                raise Taken(f"the lease {path} was taken over by {named(owner)}")
            write_file(path, to_json({**me, "until": time.time() + seconds}))

    with guarded(path):
        owner = read(path)
        if owner is not None:
            if alive(owner):
                raise Taken(f"{path} is held by {named(owner)}")
            log.warning("%s: taking over from %s, which is gone", path, named(owner))
        write_file(path, to_json({**me, "until": time.time() + seconds}))
    try:
        yield prolong
    finally:
        with guarded(path):
            owner = read(path)
            if owner is not None and same(owner, me):
                path.unlink()


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Let one process at a time look at the lease and change it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".guard").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read(path: Path) -> dict[str, Any] | None:
    """Return the owner, or None."""
    try:
        owner: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return owner


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Say whether both are one process."""
    return all(one[key] == other[key] for key in ("host", "pid", "begun"))


def alive(owner: dict[str, Any]) -> bool:
    """Say whether the owner still runs; of another machine only its expiry is known."""
    if owner["host"] != socket.gethostname():
        return bool(time.time() < owner["until"])
    try:
        return bool(psutil.Process(owner["pid"]).create_time() == owner["begun"])
    except psutil.NoSuchProcess:
        return False


def named(owner: dict[str, Any]) -> str:
    """Write an owner in words."""
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(owner["until"]))
    return f"process {owner['pid']} on {owner['host']} (until {until})"
