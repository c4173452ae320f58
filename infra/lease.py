"""A lock with an owner and an expiry, in a file that machines may share."""

import fcntl
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steps.core.system.process_owner import is_alive, process_name
from steps.core.system.storage import to_json, write_file

log = logging.getLogger("headstart")


class LeaseTaken(Exception):
    """Raised when another owner holds the lease."""


@contextmanager
def lease(path: Path, seconds: float) -> Iterator[Callable[[], None]]:
    """Hold the lease at `path`; yields the function that prolongs it by `seconds` from now.

    One whose owner is gone (its process has ended on this machine, or it has expired on another one) is
    taken over, and the log says from whom. An owner that lives here keeps it however late it is.

    Raises:
        Taken: Somebody else holds it; says who, since when, until when.
    """
    me = process_name()

    def renew() -> None:
        with lease_file_lock(path):
            holder = read(path)
            if holder is not None and holder["owner"] != me:
                raise LeaseTaken(f"the lease {path} was taken over by {describe_holder(holder)}")
            write_file(path, to_json({"owner": me, "until": time.time() + seconds}))

    with lease_file_lock(path):
        holder = read(path)
        if holder is not None:
            if is_held(holder):
                raise LeaseTaken(f"{path} is held by {describe_holder(holder)}")
            log.warning("%s: taking over from %s, which is gone", path, describe_holder(holder))
        write_file(path, to_json({"owner": me, "until": time.time() + seconds}))
    try:
        yield renew
    finally:
        with lease_file_lock(path):
            holder = read(path)
            if holder is not None and holder["owner"] == me:
                path.unlink()


@contextmanager
def lease_file_lock(path: Path) -> Iterator[None]:
    """Let one process at a time look at the lease and change it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".guard").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read(path: Path) -> dict[str, Any] | None:
    """Return `process_name` and `until`, or None."""
    try:
        holder: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return holder


def is_held(holder: dict[str, Any]) -> bool:
    """Say whether the owner still runs; of another machine only its expiry is known."""
    known = is_alive(holder["owner"])
    return bool(time.time() < holder["until"]) if known is None else known


def describe_holder(holder: dict[str, Any]) -> str:
    """Write an owner in words."""
    place, _, pid, _ = holder["owner"].split(" ")
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["until"]))
    return f"process {pid} on {place.partition('/')[0]} (until {until})"
