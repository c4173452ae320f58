"""The terminal while a pipeline runs: a line a phase, and a bar for the one that is running.

Everything else that is printed meanwhile, by any library and from C++ too, goes to the run's log file: the
file descriptors of stdout and stderr lead there, and only this module writes to what they were.
"""

import io
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, TYPE_CHECKING, TextIO

from steps.core.system.progress import Advance, make_progress, shown_by
from steps.core.system.secrets import mask
from steps.runtime.failures import DEBUG
from steps.runtime.journal import LOGS, Facts, log_file_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

log = logging.getLogger("headstart")


class Terminal(logging.Handler):
    """Writes for people to stderr, and the result to stdout; without a terminal, the same lines and no bar.

    Args:
        phases: The names of the run's phases, in order.
        run: The run, as its log file is called; the engine may rename it once it has named the run.
        out: For results.
        err: For the lines on the way.
    """

    def __init__(self, phases: Sequence[str], run: str, out: TextIO, err: TextIO) -> None:
        super().__init__(logging.INFO)
        self.phases, self.run, self.out, self.shown = phases, run, out, set[str]()
        self.err = make_console(err)
        self.bars: Progress | None = None
        self.running: TaskID | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Show that a phase runs, with the progress of its parts."""
        with make_progress(self.err, not self.err.is_terminal, transient=True) as self.bars:
            label = f"{self.number(name)} {name}"
            self.running = self.bars.add_task(label, total=None, unit="part")
            try:
                with shown_by(self):
                    yield
            finally:
                self.running = None

    @contextmanager
    def work(self, what: str, total: int, unit: str, done: int) -> Iterator[Advance]:
        """See `steps.core.system.progress.Display`; it stands in the phase's line."""
        bars, running = self.bars, self.running
        assert bars is not None
        assert running is not None
        label = f"{bars.tasks[0].description}: {what}"
        task = bars.add_task(label, total=total, completed=done, unit=unit)
        bars.update(running, visible=False)
        try:
            yield lambda count: bars.advance(task, count)
        finally:
            bars.refresh()
            bars.remove_task(task)
            bars.update(running, visible=len(bars.task_ids) == 1)

    def number(self, name: str) -> str:
        """Return which of how many phases it is, as `[ 3/11]`."""
        if name not in self.phases:
            return ""
        return f"[{self.phases.index(name) + 1:2d}/{len(self.phases)}]"

    def show_phase(self, name: str, found: str, seconds: float | None) -> None:
        """Write a phase's line, once: what it found, and how long it took; None for a reused result."""
        if name in self.shown:
            return
        self.shown.add(name)
        took = "reused" if seconds is None else duration(seconds)
        self.write(f"{self.number(name)} {name:<16} {took:>7}  {found}")

    def write(self, line: str) -> None:
        """Write a line for people, above the bar if there is one."""
        self.err.print(mask(line), markup=False, highlight=False, soft_wrap=True)

    def result(self, text: str) -> None:
        """Write what the run came to, to stdout."""
        print(mask(text), file=self.out, flush=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write what this project logs; a phase's figures have their line already."""
        if not any(isinstance(word, Facts) for word in record.args or ()):
            level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
            self.write(f"        {level}{record.getMessage()}")


_active: list[Terminal] = []


def active() -> Terminal | None:
    """Return the terminal of this process's run, if it has one."""
    return _active[-1] if _active else None


@contextmanager
def phase_bar(name: str, run: str) -> Iterator[None]:
    """Show that a phase runs, if the run has a terminal here; tell that how the engine calls the run."""
    if (shown := active()) is None:
        yield
        return
    shown.run = run
    with shown.phase(name):
        yield


def make_console(file: TextIO) -> "Console":
    """Return a console whose width is the terminal's, without colour where there is none."""
    from rich.console import Console

    return Console(file=file)


def duration(seconds: float) -> str:
    """Write seconds for people: `4.2 s`, `3:07`, `2:05:00`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def terminal(phases: Sequence[str], run: str) -> Iterator[Terminal | None]:
    """Let a run of these phases write to the terminal as `Terminal` does; the rest goes to its log.

    Args:
        phases: In order.
        run: Names the log file: logs/RUN.log.

    With $HEADSTART_DEBUG nothing is redirected. Runs within runs share the outer one's terminal.
    """
    if os.environ.get(DEBUG) or _active:
        yield active()
        return
    with ExitStack() as stack:
        file = stack.enter_context(output_file())
        stack.callback(lambda: append_masked(file, shown.run))
        out, err = stack.enter_context(redirected(file))
        shown = Terminal(phases, run, out, err)
        _active.append(shown)
        stack.callback(_active.remove, shown)
        log.addHandler(shown)
        stack.callback(log.removeHandler, shown)
        stack.enter_context(without_copies_on_stdout())
        yield shown


def output_file() -> IO[bytes]:
    """Open the nameless file that libraries print to: gone after a kill, and never on a disk that is full."""
    try:
        return tempfile.TemporaryFile(buffering=0)
    except OSError:
        return open(os.devnull, "r+b", buffering=0)


@contextmanager
def redirected(file: IO[bytes]) -> Iterator[tuple[TextIO, TextIO]]:
    """Lead stdout and stderr of this process into a file; yield what they were, as text."""
    flush()
    with ExitStack() as stack:
        kept = [stack.enter_context(os.fdopen(os.dup(number), "wb", 0)) for number in (1, 2)]
        out, err = (io.TextIOWrapper(one, "utf-8", errors="replace", write_through=True) for one in kept)
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield out, err
        finally:
            flush()
            for number, was in zip((1, 2), kept, strict=True):
                os.dup2(was.fileno(), number)


def flush() -> None:
    """Send on what Python still holds of its two streams, if there is room for it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()


def append_masked(file: IO[bytes], run: str) -> None:
    """Append what was printed to the run's log, without secrets; nothing where no log can be written."""
    file.seek(0)
    text = mask(file.read().decode("utf-8", "replace"))
    if not text.strip():
        return
    try:
        LOGS.mkdir(exist_ok=True)
        with log_file_of(run).open("a", encoding="utf-8") as log_file:
            log_file.write(
                f"{time.strftime('%Y-%m-%d %H:%M:%S')} what libraries printed meanwhile:\n{text}\n"
            )
    except OSError:
        return


@contextmanager
def without_copies_on_stdout() -> Iterator[None]:
    """Keep this project's own messages out of the redirected output: the run's log has them already."""

    def foreign(record: logging.LogRecord) -> bool:
        return record.name != log.name

    handlers = [one for one in logging.root.handlers if isinstance(one, logging.StreamHandler)]
    for handler in handlers:
        handler.addFilter(foreign)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(foreign)
