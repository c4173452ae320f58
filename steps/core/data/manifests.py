"""A table that says path, label, split and group of every sample, whatever its columns are called."""

import logging
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from steps.core.data.columns import SPLIT_FLAG, Chosen, choose, find_paths, told
from steps.core.data.files import Folder
from steps.core.data.label_columns import BITS, SAY, labels_of, named
from steps.core.data.places import Places
from steps.core.data.settings import Columns
from steps.core.data.splits import SPLIT_NAMES
from steps.core.data.tables import parse_bytes
from steps.core.system.errors import DataError
from steps.core.tasks.labelling import read_sets

COLUMNS_MARK = "#"  # between a table's place and the columns that are a sample, which are joined by commas
FIRST_LINE = 2  # the line of a table's first row; the header is line 1
log = logging.getLogger("headstart")


class Samples(Protocol):
    """What is a sample, of one kind or of any that is known."""

    @property
    def endings(self) -> tuple[str, ...]:
        """Of files that are samples, in lower case."""

    def columns_of(self, table: pd.DataFrame) -> list[str]:
        """Return the columns of a table that are a sample each row; none where samples are files."""


class SampleKinds(Samples, Protocol):
    """What kinds of samples are known; see `steps.core.modalities.registry.Known`."""

    def endings_of(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Return the endings of the kind that most of the files are samples of."""


def read_manifest(
    folder: Folder, cache: Path, kinds: SampleKinds, said: Columns | None
) -> tuple[str, pd.DataFrame]:
    """Read the table that is the folder's root; see `steps.core.data.layouts.read_layout`.

    Without a column of paths its own rows may be the samples, where a modality knows their columns.

    Raises:
        DataError: It cannot be parsed, a column is missing, or a split has an unknown name.
    """
    name = folder.root
    file = folder.url.rpartition("/")[2]
    table, written = parse_bytes(name, folder.read_root())
    told_path = told(table, said.path, "path", name) if said and said.path else named(table, "path")
    samples = [] if told_path else kinds.columns_of(table)
    if samples:
        chosen = choose(table, name, said, None, samples)
        tell(file, chosen, written, "")
        rows = [row_path(file, row) for row in range(len(table))]
        return table_root(folder.url, samples), normalise_manifest(canonical(table, chosen, rows, name), name)
    parent = folder.parent(cache)
    column, paths = locate(table, name, parent, kinds, told_path)
    if column.lower().endswith(kinds.endings):  # the first line is a row
        table, written = parse_bytes(name, folder.read_root(), headed=False)
        column, paths = locate(table, name, parent, kinds, None)
    chosen = choose(table, name, said, column)
    tell(file, chosen, written, str(paths[0]) if paths else "")
    return parent.url, normalise_manifest(canonical(table, chosen, paths, name), name)


def locate(
    table: pd.DataFrame, name: str, parent: Folder, kinds: Samples, column: str | None, inside: str = ""
) -> tuple[str, list[Any]]:
    """Return the column of paths, and every row's file; of one that is not there, what the table says.

    Args:
        table: As it is in its file.
        name: Of the file, for messages.
        parent: The folder that paths are relative to.
        kinds: Whose endings samples have.
        column: The column of paths, where it is known.
        inside: The part of the folder in which files are looked for, with a slash at its end.

    Raises:
        DataError: No column holds paths, or a cell may mean several files.
    """
    known = column is not None and not inside and (not parent.can_list or parent.holds_all(table[column]))
    if column is not None and known:
        return column, list(table[column])
    listed = parent.list() if parent.can_list else []
    files = [one.removeprefix(inside) for one in listed if one.startswith(inside)]
    stem = name.rpartition("/")[2].rpartition(".")[0]
    column, found = find_paths(table, name, Places(files, kinds.endings), column, stem)
    if column is None or found is None:
        raise DataError(
            f"{name} has the columns {list(table.columns)}: expected one called path, or one whose cells are "
            f"files beside it; name them in the first line, or {SAY}"
            f"{embedded(table)}"
        )
    pairs = zip(table[column], found.paths, strict=True)
    return column, [given if place is None else f"{inside}{place}" for given, place in pairs]


def embedded(table: pd.DataFrame) -> str:
    """Return what to do with a table that holds the files themselves, as `datasets` does; '' for none."""
    first = table.head(1)
    for column in map(str, table):
        if any(isinstance(cell, dict | bytes) for cell in first[column]):
            return f"; {column} holds the samples themselves: write each to a file, and its path here"
    return ""


def canonical(table: pd.DataFrame, chosen: Chosen, paths: Sequence[Any], name: str) -> pd.DataFrame:
    """Return the chosen columns of a table, and the samples' paths, under the documented names.

    Raises:
        DataError: A column of 0 and 1 holds something else.
    """
    if isinstance(chosen.label, list):
        column, cells = labels_of(table, chosen.label, name)
    else:
        column = "labels" if chosen.label.strip().lower() == "labels" else "label"
        cells = table[chosen.label]
    columns = {"path": pd.Series(list(paths), index=table.index, dtype=object), column: cells}
    for key in ("split", "group"):
        if (source := getattr(chosen, key)) is not None:
            columns[key] = table[source]
    if chosen.split is not None and chosen.split.strip().lower() == SPLIT_FLAG:
        flags = columns["split"].map(lambda cell: BITS.get(str(cell).strip().lower()), na_action="ignore")
        columns["split"] = flags.map({0: "train", 1: "val"})
    return pd.DataFrame(columns)


def tell(file: str, chosen: Chosen, written: str, example: str) -> None:
    """Say in one line how a table was read, where that does not follow from its names alone."""
    if chosen.by_name and not written:
        return
    label = chosen.label if isinstance(chosen.label, str) else ", ".join(chosen.label)
    columns = {"path": chosen.path, "label": label, "split": chosen.split, "group": chosen.group}
    words = [f"{key} is {column}" for key, column in columns.items() if column]
    shown = f", the first {example}" if example else ""
    log.info("%s%s: %s%s", file, f" ({written})" if written else "", "; ".join(words), shown)


def tell_lists(name: str, labels: "pd.Series[Any]") -> None:
    """Say in one line that labels look like several each, divided by something else than `|`.

    They do where the words between the marks are fewer than the labels that are made of them.
    """
    cells = set(labels.dropna())
    for mark in (",", ";", " "):
        words = {word.strip() for cell in cells for word in cell.split(mark)}
        if len(words) < len(cells):
            log.info(
                "%s: %r is taken as one label; where it is several, write | instead of %r between them",
                name.rpartition("/")[2], next(cell for cell in sorted(cells) if mark in cell), mark,
            )  # fmt: skip
            return


def table_root(url: str, columns: Sequence[str]) -> str:
    """Return how a table whose rows are the samples is called as a root."""
    return f"{url}{COLUMNS_MARK}{','.join(columns)}"


def composed(name: Any) -> Any:
    """Return a class name in Unicode's composed form (NFC): macOS spells accents apart, other systems do not.

    Of a list of names each is; what is no text stays as it is.
    """
    if isinstance(name, str):
        return unicodedata.normalize("NFC", name)
    return [composed(one) for one in name] if isinstance(name, list | tuple | np.ndarray) else name


def row_path(file: str, row: int) -> str:
    """Return the path of a row, counted from 0, of the table in a file: `reviews.csv:2`."""
    return f"{file}:{row + FIRST_LINE}"


def normalise_manifest(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Check the columns path, label or labels, split, group of a manifest called `name`.

    Raises:
        DataError: A cell is empty, or a split has an unknown name.
    """
    column = "labels" if "labels" in table else "label"
    for optional in ("split", "group"):
        if optional not in table:
            table[optional] = None
    table = table[["path", column, "split", "group"]].astype(object)
    blank = table.map(lambda value: isinstance(value, str) and not value.strip())
    table = table.where(table.notna() & ~blank, None)
    table["path"] = table["path"].map(str, na_action="ignore")
    table[column] = table[column].map(composed)
    if table.empty:
        raise DataError(f"{name} has no rows: write a line for every sample")
    if (sets := read_sets(table[column], name)) is not None:
        table[column] = sets
        table = table.rename(columns={column: "labels"})
    else:
        table["label"] = table["label"].map(str, na_action="ignore")
        tell_lists(name, table["label"])
    for needed in {"path", "label"} & set(table.columns):
        if table[needed].isna().any():
            row = int(table[needed].isna().to_numpy().argmax()) + 2
            hint = "; where rows may have several labels or none, call the column labels"
            raise DataError(
                f"{name} line {row}: {needed} is empty; fill it in, or remove the line"
                f"{hint if needed == 'label' else ''}"
            )
    table["split"] = table["split"].map(lambda cell: str(cell).strip().lower(), na_action="ignore")
    unknown = sorted(set(table["split"].dropna()) - set(SPLIT_NAMES))
    if unknown:
        raise DataError(f"{name}: split is {unknown}; expected one of {sorted(SPLIT_NAMES)}")
    table["split"] = table["split"].map(SPLIT_NAMES, na_action="ignore").astype(object)
    table["split"] = table["split"].where(table["split"].notna(), None)
    return table
