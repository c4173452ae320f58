"""How a data set lies on disk, read into one table: path, label, split, group (the last two or None).

Layouts: `class/file`, `split/class/file`, or a CSV or parquet manifest with columns path and label
and, if wanted, split and group. Where a manifest holds several labels in a cell, the table's column is
`labels`, and each cell a set of them as text; see `read_sets`.
"""

import io
import os
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from steps.core.data.files import Folder
from steps.core.data.splits import SPLIT_NAMES
from steps.core.system.errors import DataError
from steps.core.tasks.labelling import read_sets

MANIFEST_ENDINGS = (".csv", ".parquet")
COLUMNS_MARK = "#"  # between a table's place and the columns that are a sample, which are joined by commas
MAX_ROWS, MAX_TABLE_BYTES = 20_000_000, 2**32  # of a manifest, which is held in memory
FIRST_LINE = 2  # the line of a table's first row; the header is line 1


class SampleKinds(Protocol):
    """What kinds of samples are known; see `steps.core.modalities.registry.Known`."""

    @property
    def endings(self) -> tuple[str, ...]:
        """Of files that are samples, in lower case."""

    def endings_of(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Return the endings of the kind that most of the files are samples of."""

    def columns_of(self, table: pd.DataFrame) -> list[str]:
        """Return the columns of a table that are a sample each row; none where samples are files."""


def read_layout(root: str, cache: Path, kinds: SampleKinds) -> tuple[str, pd.DataFrame]:
    """Return what the paths are relative to (see `steps.core.data.rows.open_source`), and the table.

    Raises:
        DataError: There is nothing there that could be a data set.
    """
    folder = Folder(root, cache)
    if folder.is_file():
        return read_manifest(folder, kinds)
    paths = folder.list()
    endings = kinds.endings_of(paths)
    rows = [parts_row(path) for path in paths if path.lower().endswith(endings)]
    if not rows:
        raise DataError(
            f"{root} holds no samples ({', '.join(kinds.endings)}): expected class/file, split/class/file, "
            f"or a manifest ({', '.join(MANIFEST_ENDINGS)}) with columns path and label"
        )
    table = pd.DataFrame(rows)
    if (table["parts"].str.len() < 2).any():
        loose = table.loc[table["parts"].str.len() < 2, "path"].iloc[0]
        raise DataError(f"{root}/{loose} lies in no class folder: expected class/file; move it into one")
    firsts = {parts[0].lower() for parts in table["parts"]}
    named = firsts & set(SPLIT_NAMES)
    if named and (named != firsts or (table["parts"].str.len() < 3).any()):
        raise DataError(
            f"{root} has folders {sorted(firsts)}, of which {sorted(named)} are names of splits: expected "
            "split/class/file throughout, or class/file without such names; a manifest can say anything"
        )
    if named:
        table["split"] = [SPLIT_NAMES[parts[0].lower()] for parts in table["parts"]]
        table["label"] = [parts[1] for parts in table["parts"]]
    else:
        table["split"] = None
        table["label"] = [parts[0] for parts in table["parts"]]
    table["label"] = table["label"].map(composed)
    table["group"] = None
    return folder.url, table[["path", "label", "split", "group"]]


def list_samples(root: str, cache: Path) -> tuple[Folder, list[str]]:
    """Return a data set's folder and the files that it consists of, without reading them.

    Raises:
        DataError: There is no such folder, or the manifest cannot be parsed.
    """
    folder = Folder(root, cache)
    if not folder.is_file():
        return folder, folder.list()
    table = parse_table(folder)
    paths = list(table["path"].dropna().astype(str)) if "path" in table else []
    return folder.parent(cache), [root.rpartition("/")[2], *paths]


def find_ignored_files(folder: Folder, endings: tuple[str, ...]) -> dict[str, list[str]]:
    """Return what lies in a folder of samples and is not taken: by the reason, paths.

    Behind a URL only files are seen, no empty folders and no links.
    """
    found: dict[str, list[str]] = {"hidden": [], "no sample": [], "empty folder": [], "link out": []}
    if not folder.local:
        return found
    for place, folders, files in os.walk(folder.root):
        inside = os.path.relpath(place, folder.root)
        for name in [*folders, *files]:
            path = os.path.normpath(f"{inside}/{name}")
            full = os.path.realpath(f"{folder.root}/{path}")
            if name.startswith("."):
                found["hidden"].append(path)
            elif not full.startswith(folder.root + os.sep):
                found["link out"].append(path)
            elif name in files and not path.lower().endswith(endings):
                found["no sample"].append(path)
        folders[:] = [name for name in folders if not name.startswith(".")]
        if not folders and not any(name.lower().endswith(endings) for name in files):
            found["empty folder"].append(inside)
    return {reason: sorted(paths) for reason, paths in found.items()}


def parts_row(path: str) -> dict[str, object]:
    """Keep a path with its parts."""
    return {"path": path, "parts": path.split("/")}


def read_manifest(folder: Folder, kinds: SampleKinds) -> tuple[str, pd.DataFrame]:
    """Read a manifest file; see `read_layout`.

    Without a column `path` its own rows may be the samples, where a modality knows their columns.

    Raises:
        DataError: It cannot be parsed, a column is missing, or a split has an unknown name.
    """
    name, table = folder.root, parse_table(folder)
    above, slash, file = folder.url.rpartition("/")
    root = above if slash else "."
    if "path" not in table and (columns := kinds.columns_of(table)):
        root = table_root(folder.url, columns)
        table["path"] = [row_path(file, row) for row in range(len(table))]
    return root, normalise_manifest(table, name)


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


def parse_table(folder: Folder) -> pd.DataFrame:
    """Read a manifest file as it is.

    Raises:
        DataError: It cannot be parsed.
    """
    name = folder.root
    try:
        return parse_manifest(name, folder.read_root())
    except (DataError, MemoryError):
        raise
    except Exception as error:  # the parsers may fail in any way on bytes made for it
        raise DataError(
            f"{name} cannot be read as a manifest in UTF-8: {error}; save it as comma-separated "
            "UTF-8, or as parquet"
        ) from None


def normalise_manifest(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the columns path, label or labels, split, group of a manifest called `name`.

    Raises:
        DataError: A column is missing or a cell is empty, or a split has an unknown name.
    """
    if {"label", "labels"} <= set(table.columns):
        raise DataError(f"{name} has a column label and a column labels: expected one of them")
    column = "labels" if "labels" in table else "label"
    missing = {"path", column} - set(table.columns)
    if missing:
        raise DataError(
            f"{name} has no column {sorted(missing)}; found {list(table.columns)}: name them in "
            "the first line"
        )
    for optional in ("split", "group"):
        if optional not in table:
            table[optional] = None
    table = table[["path", column, "split", "group"]].astype(object)
    blank = table.map(lambda value: isinstance(value, str) and not value.strip())
    table = table.where(table.notna() & ~blank, None)
    table[column] = table[column].map(composed)
    if table.empty:
        raise DataError(f"{name} has no rows: write a line for every sample")
    if (sets := read_sets(table[column], name)) is not None:
        table[column] = sets
        table = table.rename(columns={column: "labels"})
    else:
        table["label"] = table["label"].map(str, na_action="ignore")
    for needed in {"path", "label"} & set(table.columns):
        if table[needed].isna().any():
            row = int(table[needed].isna().to_numpy().argmax()) + 2
            hint = "; where rows may have several labels or none, call the column labels"
            raise DataError(
                f"{name} line {row}: {needed} is empty; fill it in, or remove the line"
                f"{hint if needed == 'label' else ''}"
            )
    unknown = sorted({str(s) for s in table["split"].dropna()} - set(SPLIT_NAMES))
    if unknown:
        raise DataError(f"{name}: split is {unknown}; expected one of {sorted(SPLIT_NAMES)}")
    table["split"] = [None if s is None else SPLIT_NAMES[s] for s in table["split"]]
    return table


def parse_manifest(name: str, data: bytes) -> pd.DataFrame:
    """Parse a manifest by its ending; a row that is longer than the header is an error."""
    if name.lower().endswith(".parquet"):
        return parse_parquet(name, data)
    if not name.lower().endswith(".csv"):
        raise DataError(
            f"{name} is neither a folder nor a manifest ({MANIFEST_ENDINGS}): set ingest_data.path to one"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            io.BytesIO(data),
            dtype=str,
            encoding="utf-8-sig",
            keep_default_na=False,
            na_values=[""],
            index_col=False,
        )


def parse_parquet(name: str, data: bytes) -> pd.DataFrame:
    """Parse a parquet file whose header claims no more than a manifest may hold.

    Raises:
        DataError: It claims more: a file of some bytes can repeat a value without end.
    """
    from pyarrow.parquet import ParquetFile

    about = ParquetFile(io.BytesIO(data)).metadata
    size = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
    if about.num_rows > MAX_ROWS or size > MAX_TABLE_BYTES:
        raise DataError(
            f"{name} has {about.num_rows} rows of {size} bytes, more than {MAX_ROWS} or {MAX_TABLE_BYTES}: "
            "split the data set"
        )
    return pd.read_parquet(io.BytesIO(data))
