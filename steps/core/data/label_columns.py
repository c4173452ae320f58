"""Which columns of a table are the label: one called so, one that repeats as classes do, or some of 0/1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from steps.core.system.errors import DataError

LABEL_NAMES = (
    "class", "class_name", "classname", "category", "target", "tags", "species", "breed", "diagnosis", "dx",
)  # fmt: skip
"""Of columns that hold the class more often than another attribute; asked only where several could be it."""
BITS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
SAY = "say it in ingest_data.columns"


def named(table: pd.DataFrame, wanted: str) -> str | None:
    """Return the column of a name, whatever its case and spaces around it."""
    if wanted in table:
        return wanted
    return next((one for one in map(str, table) if one.strip().lower() == wanted), None)


def label_by_name(table: pd.DataFrame, name: str) -> str | None:
    """Return the column called label or labels; None if there is none.

    Raises:
        DataError: There are both.
    """
    found = [column for column in (named(table, "label"), named(table, "labels")) if column is not None]
    if len(found) > 1:
        raise DataError(f"{name} has a column label and a column labels: expected one of them")
    return found[0] if found else None


def label_by_content(
    table: pd.DataFrame, columns: Sequence[str], name: str, path: str | None
) -> str | list[str]:
    """Return which of some columns could be the label, or the columns of 0 and 1 that are one together.

    Raises:
        DataError: There is none, or there are several.
    """
    bits = [str(one) for one in columns if is_bits(table[one])]
    able = [str(one) for one in columns if repeats(table[one])]
    names = [one for one in able if not is_number(table[one])]
    able = [one for one in able if one in names or not any(same_classes(table, one, name) for name in names)]
    if len(bits) > 1 and set(able) <= set(bits):
        return bits
    hinted = [one for one in able if one.strip().lower() in LABEL_NAMES]
    for choice in (able, hinted):
        if len(choice) == 1:
            return choice[0]
    missing = ["label"] if path else ["label", "path"]
    if not able and not bits:
        raise DataError(
            f"{name} has no column {missing}; found {list(table.columns)}: name them in the first line, "
            f"or {SAY}"
        )
    raise DataError(f"{name} has no column {missing}, and {sorted({*able, *bits})} could be the label: {SAY}")


def is_bits(cells: "pd.Series[Any]") -> bool:
    """Say whether a column holds nothing but 0 and 1."""
    return bool(cells.notna().all()) and {str(cell).strip().lower() for cell in cells} <= set(BITS)


def is_number(cells: "pd.Series[Any]") -> bool:
    """Say whether every cell is a number."""
    return bool(pd.to_numeric(cells, errors="coerce").notna().all())


def repeats(cells: "pd.Series[Any]") -> bool:
    """Say whether a column has two values at least, which come more than once on the average."""
    cells = cells.dropna()
    texts = cells.map(lambda cell: str(cell).strip())
    if cells.map(lambda cell: isinstance(cell, dict)).any() or is_measured(texts):
        return False
    return 2 <= texts.nunique() <= len(texts) / 2


def is_measured(cells: "pd.Series[Any]") -> bool:
    """Say whether every cell is a number, and not all are whole."""
    numbers = pd.to_numeric(cells, errors="coerce")
    return bool(len(numbers)) and bool(numbers.notna().all()) and bool((numbers % 1 != 0).any())


def same_classes(table: pd.DataFrame, one: str, other: str) -> bool:
    """Say whether two columns divide the rows alike, such as a class's number and its name."""
    counts = {table[column].map(str).nunique() for column in (one, other)}
    return counts == {len(table[[one, other]].astype(str).drop_duplicates())}


def labels_of(table: pd.DataFrame, columns: Sequence[str], name: str) -> "tuple[str, pd.Series[Any]]":
    """Return what columns of 0 and 1 say: `label` and a class a row, or `labels` and a list of them.

    Raises:
        DataError: A cell is neither 0 nor 1.
    """
    for column in columns:
        if not is_bits(table[column]):
            odd = next(cell for cell in table[column] if str(cell).strip().lower() not in BITS)
            raise DataError(
                f"{name}, column {column}: found {odd!r} among 0 and 1; write one of them, or leave it out"
            )
    bits = np.array([[BITS[str(cell).strip().lower()] for cell in table[one]] for one in columns]).T
    classes = [one.strip() for one in columns]
    if (bits.sum(axis=1) == 1).all():
        return "label", pd.Series([classes[row.argmax()] for row in bits], index=table.index)
    sets = [[one for one, bit in zip(classes, row, strict=True) if bit] for row in bits]
    return "labels", pd.Series(sets, index=table.index)
