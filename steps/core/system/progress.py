"""How far long work is, told to whoever shows it; by itself, a bar where there is a terminal."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.progress import Progress

Advance = Callable[[int], None]
"""Says that so many more units are done."""

T = TypeVar("T")


class Display(Protocol):
    """What shows progress: `steps.runtime.terminal` does while a pipeline runs."""

    def work(self, what: str, total: int, unit: str, done: int) -> "AbstractContextManager[Advance]":
        """Show a piece of work until the context ends.

        Args:
            what: In one or two words.
            total: How much there is, in units.
            unit: The unit's name, in the singular.
            done: How much of it an earlier start has done.
        """


class Bars:
    """A bar on stderr, where that is a terminal."""

    @contextmanager
    def work(self, what: str, total: int, unit: str, done: int) -> Iterator[Advance]:
        """See `Display.work`."""
        with make_progress(disable=not sys.stderr.isatty()) as bars:
            task = bars.add_task(what, total=total, completed=done, unit=unit)
            yield lambda count: bars.advance(task, count)


_displays: list[Display] = [Bars()]


def make_progress(console: Any = None, disable: bool = False, transient: bool = False) -> "Progress":
    """Return the columns that every bar has: what, how much of it, time gone and time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total} {task.fields[unit]}s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
        disable=disable,
        transient=transient,
    )


@contextmanager
def shown_by(display: Display) -> Iterator[None]:
    """Let `display` show what is done in here."""
    _displays.append(display)
    try:
        yield
    finally:
        _displays.remove(display)


@contextmanager
def progress(what: str, total: int, unit: str, done: int = 0, silent: bool = False) -> Iterator[Advance]:
    """Show work of `total` units; call what is yielded with how many have been done since the last call.

    Args:
        what: In one or two words.
        total: In units.
        unit: The unit's name, in the singular.
        done: How many an earlier start has done.
        silent: Show nothing, as all processes but one do.
    """
    with (
        nullcontext(lambda count: None) if silent else _displays[-1].work(what, total, unit, done) as advance
    ):
        yield advance


def count(
    items: Iterable[T], what: str, total: int, unit: str, done: int = 0, silent: bool = False
) -> Iterator[T]:
    """Yield the items, and show how many have been; the arguments are those of `progress`."""
    with progress(what, total, unit, done, silent) as advance:
        for item in items:
            advance(1)
            yield item
