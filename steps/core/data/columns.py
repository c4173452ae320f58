"""Which of a table's columns say file, label, split and group: as told, by name, or by their content."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from steps.core.data.label_columns import BITS, SAY, label_by_content, label_by_name, named
from steps.core.data.places import Found, Places, word_of
from steps.core.data.settings import Columns
from steps.core.data.splits import SPLIT_NAMES
from steps.core.system.errors import DataError

MOST = (
    0.5  # of the rows: whose file must be there, or whose cell must differ, for a column to be one of paths
)
FILE_NAMES = (
    "file_name",
    "filename",
    "filepath",
    "file_path",
    "image_path",
    "image",
    "image_id",
    "file",
    "id",
)
SPLIT_FLAG = "is_valid"  # fastai's: true in the rows of validation


@dataclass(frozen=True)
class Chosen:
    """The columns of a table, by its own names."""

    path: str | None
    """None where the rows are the samples."""
    label: str | list[str]
    """One column, or one of 0 and 1 for every class."""
    split: str | None
    group: str | None
    by_name: bool
    """Whether all of them are called as documented."""


def told(table: pd.DataFrame, column: str, key: str, name: str) -> str:
    """Return a column that the parameters name.

    Raises:
        DataError: There is none.
    """
    stripped = {str(one).strip(): one for one in table}
    if column not in stripped:
        raise DataError(
            f"{name} has no column {column!r}, which ingest_data.columns.{key} names; found "
            f"{list(table.columns)}"
        )
    return str(stripped[column])


def choose(
    table: pd.DataFrame, name: str, said: Columns | None, path: str | None, samples: Sequence[str] = ()
) -> Chosen:
    """Choose label, split and group.

    Args:
        table: As it is in its file.
        name: Of the file.
        said: What the parameters say.
        path: The column of paths, if there is one.
        samples: The columns that are the sample, if its rows are.

    Raises:
        DataError: A column is missing, or several could be the label.
    """
    split = told(table, said.split, "split", name) if said and said.split else named(table, "split")
    group = told(table, said.group, "group", name) if said and said.group else named(table, "group")
    label: str | list[str] | None = None
    if said and said.label:
        names = [said.label] if isinstance(said.label, str) else said.label
        found = [told(table, one, "label", name) for one in names]
        label = found[0] if isinstance(said.label, str) else found
    taken = {path, split, group, *samples, *([label] if isinstance(label, str) else label or [])}
    label = label or label_by_name(table.drop(columns=[one for one in taken if one in table]), name)
    rest = [
        one
        for one in map(str, table)
        if one not in {*taken, *([label] if isinstance(label, str) else label or [])}
    ]
    if split is None:
        split = next((one for one in rest if is_split(one, table[one])), None)
        rest = [one for one in rest if one != split]
    chosen = label or label_by_content(table, rest, name, path)
    usual = label in ("label", "labels") and split in (None, "split") and group in (None, "group")
    return Chosen(path, chosen, split, group, by_name=usual and (path == "path" or bool(samples)))


def find_paths(
    table: pd.DataFrame, name: str, places: Places, column: str | None, stem: str
) -> tuple[str | None, Found | None]:
    """Return the column of paths and its files: `column` if it is known, else the one whose cells are files.

    Args:
        table: As it is in its file.
        name: Of the file.
        places: The files that may be meant.
        column: The column, where it is known.
        stem: Name of the file without ending.

    Raises:
        DataError: Its cells may mean several files.
    """
    if column is not None:
        try:
            return column, places.find(list(table[column]), words_of(table, column), stem)
        except DataError as error:
            raise DataError(f"{name}, column {column}: {error}") from None
    best: tuple[Any, ...] = ()
    trouble = ""
    for one in map(str, table):
        if not could_be_paths(table[one], one):
            continue
        try:
            found = places.find(list(table[one]), words_of(table, one), stem)
        except DataError as error:
            trouble = trouble or f"{name}, column {one}: {error}; {SAY}"
            continue
        wish = FILE_NAMES[::-1].index(one.lower()) if one.lower() in FILE_NAMES else -1
        rank = (found.exact, found.share, wish)
        if found.share >= MOST and (not best or rank > best[0]):
            best = (rank, one, found)
    if not best and trouble:
        raise DataError(trouble)
    return (best[1], best[2]) if best else (None, None)


def words_of(table: pd.DataFrame, column: str) -> Callable[[int], set[str]]:
    """Return what finds the words of a row's other cells."""
    others = table.drop(columns=column).astype(object).to_numpy()
    return lambda row: {word_of(cell) for cell in others[row]}


def could_be_paths(cells: "pd.Series[Any]", name: str) -> bool:
    """Say whether a column's cells differ as much as those of paths do."""
    if not len(cells) or cells.map(lambda cell: isinstance(cell, list | dict | np.ndarray | float)).all():
        return False
    return name.strip().lower() in FILE_NAMES or cells.map(str).nunique() >= MOST * len(cells)


def is_split(name: str, cells: "pd.Series[Any]") -> bool:
    """Say whether a column holds nothing but names of splits, or fastai's flag."""
    words = {str(cell).strip().lower() for cell in cells.dropna()}
    if name.strip().lower() == SPLIT_FLAG:
        return bool(words) and words <= set(BITS)
    return len(words) > 1 and words <= set(SPLIT_NAMES)
