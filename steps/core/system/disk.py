"""What a disk may do to a save: be full, be read-only, be left in the middle by a kill."""

import ctypes
import errno
import itertools
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from steps.core.system.errors import DiskError
from steps.core.system.process_owner import PROC

DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of fcntl.h and linux/fs.h
UNWRITABLE_ERRNOS = {*DISK_FULL_ERRNOS, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Put a full disk, and one that may not be written to, into words.

    Raises:
        DiskError: Instead of the OSError that says so.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE_ERRNOS:
            raise
        raise disk_error(error, path) from None


def disk_error(error: OSError, path: Path) -> DiskError:
    """Return what to say of a disk that refuses to be written to."""
    if error.errno in DISK_FULL_ERRNOS:
        return DiskError(
            f"{path} cannot be written, the disk is full: make room, or point HEADSTART_SCRATCH to a larger "
            "disk, and run the same command again; finished work is kept"
        )
    return DiskError(
        f"{path} cannot be written ({error.strerror}): give this user the right to write there, or choose a "
        "folder that may be written to, and run the same command again"
    )


@contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder next to `folder`, which is gone at the end; so is what killed processes left."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    mine = f".{folder.name}-{socket.gethostname()}-"
    for left in folder.parent.glob(f"{mine}*"):
        pid = left.name.removeprefix(mine).partition("-")[0]
        if not (PROC / pid).exists():
            shutil.rmtree(left, ignore_errors=True)
    staged = Path(tempfile.mkdtemp(prefix=f"{mine}{os.getpid()}-", dir=folder.parent))
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def replace_folder(staged: Path, folder: Path) -> None:
    """Move `staged` to `folder`; what was there lies at `staged` afterwards, or is gone.

    Where the file system can exchange two folders, one is there at every moment, and is the old or the new
    one. Elsewhere the old one goes away only after the move has worked. Processes that do so at once take
    turns, and the last one's stays.
    """
    if try_move(staged, folder) or try_exchange(staged, folder):
        return
    with staging_folder(folder) as old:
        for number in itertools.count():
            with suppress(FileNotFoundError):  # another process was first
                folder.rename(old / str(number))
            if try_move(staged, folder):
                return


def try_move(staged: Path, folder: Path) -> bool:
    """Move `staged` to `folder`; False where something is there."""
    try:
        staged.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def try_exchange(one: Path, other: Path) -> bool:
    """Exchange two folders at once, see renameat2(2); False where that cannot be done."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return rename is not None and rename(AT_FDCWD, bytes(one), AT_FDCWD, bytes(other), RENAME_EXCHANGE) == 0
