"""What a run writes down as it goes: logs/RUN.log for people, logs/RUN.jsonl a json object a line."""

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from steps.core.system.secrets import mask

LOGS = Path("logs")
Trace = tuple[type[BaseException], BaseException, TracebackType | None]

log = logging.getLogger("headstart")


class Facts:
    """Figures that are logged: a person reads the `shown` ones, a machine all."""

    def __init__(self, kept: Mapping[str, Any], shown: Mapping[str, Any]) -> None:
        self.shown, self.all = shown, {**kept, **shown}

    def __str__(self) -> str:
        """Write the shown ones in a line."""
        return "  ".join(f"{name} {value}" for name, value in self.shown.items())


class TextFormatter(logging.Formatter):
    """A line for people; a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return mask(super().format(record))


class JsonFormatter(logging.Formatter):
    """A json object in a line: time, level, phase, says, and the record's facts."""

    def __init__(self, phase: str) -> None:
        super().__init__()
        self.phase = phase

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "phase": self.phase,
            "process": record.process,
            "message": mask(record.getMessage()),
        }
        for words in record.args or ():
            if isinstance(words, Facts):
                fields.update(words.all)
        if record.exc_info:
            fields["traceback"] = mask(self.formatException(record.exc_info))
        return json.dumps(fields, ensure_ascii=False)


class LogFile(logging.FileHandler):
    """A log file whose disk may be full: then it is silent, the run itself says so."""

    def handleError(self, record: logging.LogRecord) -> None:  # logging's own name
        """Write nothing."""


@contextmanager
def journal(run: str, phase: str) -> Iterator[None]:
    """Write what is logged in here also to the files of `run`."""
    handlers = open_files(run, phase)
    for handler in handlers:
        log.addHandler(handler)
    begun, ended = time.monotonic(), "failed"
    write_record(handlers, logging.INFO, "begins")
    try:
        yield
        ended = "ended"
    finally:
        facts = Facts({}, {"seconds": round(time.monotonic() - begun, 3)})
        write_record(handlers, logging.ERROR if ended == "failed" else logging.INFO, f"{ended}  %s", facts)
        close(handlers)


def write_traceback(run: str, phase: str, error: BaseException) -> Path | None:
    """Write an error with its traceback to the files of `run`; return the one for people."""
    handlers = open_files(run, phase)
    trace = (type(error), error, error.__traceback__)
    write_record(handlers, logging.ERROR, "%s: %s", type(error).__name__, error, trace=trace)
    close(handlers)
    return Path(handlers[0].baseFilename) if handlers else None


def open_files(run: str, phase: str) -> list[LogFile]:
    """Open the two files; none where nothing may be written."""
    file = log_file_of(run)
    try:
        LOGS.mkdir(exist_ok=True)
        text, lines = LogFile(file), LogFile(file.with_suffix(".jsonl"))
    except OSError:
        return []
    text.setFormatter(TextFormatter(f"%(asctime)s {phase} %(levelname)s %(message)s"))
    lines.setFormatter(JsonFormatter(phase))
    return [text, lines]


def log_file_of(run: str) -> Path:
    """Return the log of a run for people: logs/RUN.log."""
    name = re.sub(r"[^\w.-]", "_", run)
    return LOGS / f"{name}.log"


def write_record(
    handlers: list[LogFile], level: int, message: str, *words: object, trace: Trace | None = None
) -> None:
    """Write to the files alone."""
    record = log.makeRecord(log.name, level, __file__, 0, message, words, trace)
    for handler in handlers:
        handler.handle(record)


def close(handlers: list[LogFile]) -> None:
    """Take the files away from the log."""
    for handler in handlers:
        log.removeHandler(handler)
        handler.close()
