"""What a bench reports: rows of figures, printed as a table and written as json."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

OUT = Path("artifacts/bench").absolute()


@dataclass(frozen=True)
class Row:
    """One claim: the project's own figure, and its ratio to the baseline's."""

    name: str
    n: int
    median: float
    min: float
    max: float
    ratio: float
    bound: float
    holds: bool
    unit: str
    note: str


def measured(
    name: str, values: Sequence[float], ratio: float, bound: float, unit: str, note: str, least: bool = True
) -> Row:
    """Return a row; the ratio must be at least the bound, or at most."""
    holds = bool(ratio >= bound if least else ratio <= bound)
    figures = (float(f(values)) for f in (statistics.median, min, max))
    return Row(name, len(values), *figures, float(ratio), bound, holds, unit, note)


def publish(title: str, rows: Sequence[Row], path: Path) -> None:
    """Print the table and write the rows."""
    table = Table("", "n", "median", "min", "max", "ratio", "bound", "holds", "note", title=title)
    for row in rows:
        figures = (f"{value:.4g} {row.unit}" for value in (row.median, row.min, row.max))
        holds = "yes" if row.holds else "NO"
        table.add_row(row.name, str(row.n), *figures, f"{row.ratio:.3g}", f"{row.bound:g}", holds, row.note)
    Console(width=170).print(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
