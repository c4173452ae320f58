"""How a table says what a sample is: by one label, or by a set of labels, which may be empty.

Which of the two follows from the data set, is found out once, by `ingest_data`, and is recorded in the
manifest. A set is written as its labels in order, with `|` between them, so equal sets are equal texts.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.core.system.errors import DataError

Ints = NDArray[np.int64]
SEPARATOR = "|"


class Labelling(Protocol):
    """Reads the `label` column of a manifest."""

    def normalised(self, text: str) -> str:
        """Return a cell as it is written in a manifest."""

    def explode(self, cells: "pd.Series[str]") -> "pd.Series[str]":
        """Return a label per row; a row with several occurs as often, one without does not."""

    def encode(self, cells: "pd.Series[str]", names: Sequence[str]) -> Ints:
        """Return class numbers (rows,), or indicators (rows, classes) of 0 and 1."""

    def allowed_cells(self, cells: Iterable[str], names: Sequence[str]) -> list[str]:
        """Return what may stand in a cell where only `names` are labels."""


class OneLabel:
    """Every sample has exactly one label; a cell is the label itself."""

    def normalised(self, text: str) -> str:
        """See `Labelling`."""
        return text

    def explode(self, cells: "pd.Series[str]") -> "pd.Series[str]":
        """See `Labelling`."""
        return cells

    def encode(self, cells: "pd.Series[str]", names: Sequence[str]) -> Ints:
        """See `Labelling`."""
        return cells.map(list(names).index).to_numpy(dtype=np.int64)

    def allowed_cells(self, cells: Iterable[str], names: Sequence[str]) -> list[str]:
        """See `Labelling`."""
        return list(names)


class LabelSets:
    """Every sample has a set of labels; a cell is the set as text."""

    def normalised(self, text: str) -> str:
        """See `Labelling`."""
        return join_labels(parse_labels(text, text))

    def explode(self, cells: "pd.Series[str]") -> "pd.Series[str]":
        """See `Labelling`."""
        return cells[cells != ""].str.split(SEPARATOR, regex=False).explode()

    def encode(self, cells: "pd.Series[str]", names: Sequence[str]) -> Ints:
        """See `Labelling`."""
        places = {name: place for place, name in enumerate(names)}
        found = np.zeros((len(cells), len(names)), np.int64)
        for row, cell in zip(found, cells, strict=True):
            row[[places[name] for name in split_labels(cell)]] = 1
        return found

    def allowed_cells(self, cells: Iterable[str], names: Sequence[str]) -> list[str]:
        """See `Labelling`."""
        return [*names, *sorted(cell for cell in set(cells) if set(split_labels(cell)) <= set(names))]


ONE_LABEL, LABEL_SETS = OneLabel(), LabelSets()


def labelling(label_sets: bool) -> Labelling:
    """Return how a manifest's labels are read."""
    return LABEL_SETS if label_sets else ONE_LABEL


def split_labels(cell: str) -> list[str]:
    """Return the labels of a set that is written as text."""
    return cell.split(SEPARATOR) if cell else []


def join_labels(names: Iterable[str]) -> str:
    """Write a set of labels as text."""
    return SEPARATOR.join(sorted(set(names)))


def parse_labels(cell: str, place: str) -> list[str]:
    """Return the labels of a cell that a person has written.

    Raises:
        DataError: Nothing stands before, after or between two `|`.
    """
    found = [name.strip() for name in cell.split(SEPARATOR)] if cell.strip() else []
    if "" in found:
        raise DataError(f"{place}: label is {cell!r}: expected one {SEPARATOR} between two labels")
    return found


def read_sets(column: "pd.Series[Any]", name: str) -> "pd.Series[Any] | None":
    """Return a manifest's column of label sets in the way they are written here; None if it holds none.

    It holds sets if its name is `labels`, if its cells are lists, or if a cell contains `|`.

    Raises:
        DataError: A cell cannot be understood; `name` is the file.
    """
    lists = column.map(lambda cell: isinstance(cell, list | tuple | np.ndarray))
    texts = column[~lists & column.notna()].map(str)
    if column.name != "labels" and not lists.any() and not texts.str.contains(SEPARATOR, regex=False).any():
        return None
    if lists.any() and not lists.all():
        row = int((~lists).to_numpy().argmax())
        raise DataError(
            f"{name} line {row + 2}: {column.name} is {column.iloc[row]!r}, elsewhere a list: write an empty "
            "list for a row that has none of the labels, and leave out what nobody has looked at"
        )
    return pd.Series(
        [read_set(cell, f"{name} line {row + 2}") for row, cell in enumerate(column)], index=column.index
    )


def read_set(cell: Any, place: str) -> str:
    """Return one cell as text; see `read_sets`."""
    if not isinstance(cell, list | tuple | np.ndarray):
        return join_labels(parse_labels("" if pd.isna(cell) else str(cell), place))
    names = [str(name).strip() for name in cell]
    if any(not name or SEPARATOR in name for name in names) or any(name is None for name in cell):
        raise DataError(f"{place}: labels are {list(cell)!r}: none may be empty or contain {SEPARATOR}")
    return join_labels(names)
