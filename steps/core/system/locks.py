"""One process at a time: the others wait, and say so."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from steps.core.system.disk import disk_errors

log = logging.getLogger("headstart")


@contextmanager
def exclusive_lock(file: Path, what: str) -> Iterator[None]:
    """Hold the lock on `file` while `what` is done; the kernel lets go of it when a process is killed.

    Raises:
        DiskError: The lock's folder cannot be written to.
    """
    lock = FileLock(file)
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            log.warning("%s is locked by another process with the same %s: waiting", what, file.parent)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
