"""One process at a time: the others wait, and say so."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steps.core.system.disk import disk_errors

log = logging.getLogger("headstart")


@contextmanager
def exclusive_lock(file: Path, what: str) -> Iterator[None]:
    """Hold the lock on `file` while `what` is done; the kernel lets go of it when a process is killed.

    Raises:
        DiskError: The lock's folder cannot be written to.
    """
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        held = file.open("w")
    with held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("%s is locked by another process with the same %s: waiting", what, file.parent)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
