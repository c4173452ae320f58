"""How a failure reaches the user: one block that says what to do; the traceback is in a file."""

import os
import traceback
from pathlib import Path
from types import TracebackType
from typing import Self

from steps.core.system.code import ROOT
from steps.core.system.disk import UNWRITABLE_ERRNOS, disk_error
from steps.core.system.errors import DiskError, HeadstartError, MemoryLimitError
from steps.core.system.secrets import mask
from steps.runtime.journal import write_traceback

DEBUG = "HEADSTART_DEBUG"
RUN_AGAIN = "Finished work is kept: run the same command again to continue."
NO_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory", "std::bad_alloc")
NO_DISK = ("database or disk is full", "attempt to write a readonly database")


class ErrorBlock:
    """Whatever goes wrong inside ends the process with one block of text."""

    def __init__(self, what: str, run: str) -> None:
        self.what, self.run = what, run

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put an error into words.

        Raises:
            SystemExit: There was one; with $HEADSTART_DEBUG the error itself goes on.
        """
        if error is None or isinstance(error, SystemExit) or os.environ.get(DEBUG):
            return
        raise SystemExit(error_block(self.what, self.run, error)) from None


def error_block(what: str, run: str, error: BaseException) -> str:
    """Return what to print: what happened, what to do, and where the rest is."""
    if isinstance(error, KeyboardInterrupt):
        return (
            f"\n{what}: stopped by Ctrl-C\nFinished work is kept: run the same command again to continue.\n"
        )
    known = as_headstart_error(error)
    if isinstance(known, HeadstartError):
        return mask(f"\n{what}: {type(known).__name__}\n{known}\n")
    file = write_traceback(run, what, error)
    where = f"The traceback is in {file}; " if file else ""
    return mask(
        f"\n{what}: unexpected {type(error).__name__}\n{error}\n{innermost_line(error)}"
        f"{where}{DEBUG}=1 shows it here. {RUN_AGAIN}\n"
    )


def as_headstart_error(error: BaseException) -> HeadstartError | None:
    """Return the error as one of ours: itself, or what a disk or a memory without room has caused."""
    text = str(error)
    if isinstance(error, HeadstartError):
        return error
    if isinstance(error, OSError) and error.errno in UNWRITABLE_ERRNOS:
        return disk_error(error, Path(str(error.filename or Path.cwd())))
    if any(words in text for words in NO_DISK):
        return DiskError(
            f"a database cannot be written ({first_line(text)}): make room on the disk, or get the right to "
            f"write to it. {RUN_AGAIN}"
        )
    if isinstance(error, MemoryError) or any(words in text for words in NO_MEMORY):
        return MemoryLimitError(
            f"not enough memory ({first_line(text) or 'no more is given'}): in params.yaml, lower "
            "cache_features.micro_batch, the batch_size of the phase or modality.image.size, or leave out "
            f"the largest samples. {RUN_AGAIN}"
        )
    return None


def first_line(text: str) -> str:
    """Return the beginning of a message."""
    return text.strip().partition("\n")[0][:200]


def innermost_line(error: BaseException) -> str:
    """Name the innermost line of this project that the error has come through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(ROOT)]
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    if not own:
        return ""
    return f"in {Path(own[-1].filename).relative_to(ROOT)}, line {own[-1].lineno}, {own[-1].name}\n"
