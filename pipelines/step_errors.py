"""Why a run failed: ZenML ends it with an error of its own, without the reason."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from zenml import get_step_context

from steps.core.system.secrets import mask_error
from steps.runtime import failures


@dataclass(frozen=True)
class FailureReason:
    """What went wrong in which phase of which run."""

    run: str
    phase: str
    error: BaseException


recorded: list[FailureReason] = []
"""What went wrong in this process."""


class RecordError:
    """Keeps the error that comes out of it, and lets it pass."""

    def __init__(self, run: str, phase: str) -> None:
        self.run, self.phase = run, phase

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Keep the error; ZenML writes it to its log and its database."""
        if error is not None:
            mask_error(error)
            recorded.append(FailureReason(self.run, self.phase, error))


class ErrorBlock(failures.ErrorBlock):
    """Ends the process with the reason instead of ZenML's own error."""

    def __init__(self, what: str) -> None:
        super().__init__(what, f"{what}-{time.strftime('%Y_%m_%d-%H_%M_%S')}-{os.getpid()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `steps.runtime.failures.ErrorBlock`."""
        if isinstance(error, RuntimeError) and recorded:
            reason = recorded[-1]
            self.what, self.run, error = reason.phase, reason.run or self.run, reason.error
        super().__exit__(kind, error, trace)


def record_step_errors() -> RecordError:
    """Return a keeper for what a step does beside its phase: reading and storing artifacts."""
    try:
        context = get_step_context()
    except RuntimeError:  # somebody looks at an artifact from outside of a run
        return RecordError("", "artifact")
    return RecordError(context.pipeline_run.name, context.step_run.name)


class TracebackFilter(logging.Filter):
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
    logger, traceback_filter = (
        logging.getLogger("zenml.orchestrators.local.local_orchestrator"),
        TracebackFilter(),
    )
    logger.addFilter(traceback_filter)
    try:
        yield
    finally:
        logger.removeFilter(traceback_filter)
