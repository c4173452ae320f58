"""Why a run failed: ZenML ends it with an error of its own, without the reason."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from zenml import get_step_context

from steps.runtime import failures


@dataclass(frozen=True)
class Reason:
    """What went wrong in which phase of which run."""

    run: str
    phase: str
    error: BaseException


found: list[Reason] = []
"""What went wrong in this process."""


class Kept:
    """Keeps the error that comes out of it, and lets it pass."""

    def __init__(self, run: str, phase: str) -> None:
        self.run, self.phase = run, phase

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Keep the error."""
        if error is not None:
            found.append(Reason(self.run, self.phase, error))


class Readable(failures.Readable):
    """Ends the process with the reason instead of ZenML's own error."""

    def __init__(self, what: str) -> None:
        super().__init__(what, f"{what}-{time.strftime('%Y_%m_%d-%H_%M_%S')}-{os.getpid()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `steps.runtime.failures.Readable`."""
        if isinstance(error, RuntimeError) and found:
            reason = found[-1]
            self.what, self.run, error = reason.phase, reason.run or self.run, reason.error
        super().__exit__(kind, error, trace)


def in_this_step() -> Kept:
    """Return a keeper for what a step does beside its phase: reading and storing artifacts."""
    try:
        context = get_step_context()
    except RuntimeError:  # somebody looks at an artifact from outside of a run
        return Kept("", "artifact")
    return Kept(context.pipeline_run.name, context.step_run.name)


class Brief(logging.Filter):
    """Leaves tracebacks out: the run's log has them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass, without its traceback."""
        record.exc_info = record.exc_text = None
        return True


@contextmanager
def without_tracebacks() -> Iterator[None]:
    """Let ZenML say which step failed in one line."""
    if os.environ.get(failures.DEBUG):
        yield
        return
    logger, brief = logging.getLogger("zenml.orchestrators.local.local_orchestrator"), Brief()
    logger.addFilter(brief)
    try:
        yield
    finally:
        logger.removeFilter(brief)
