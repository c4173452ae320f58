"""Samples that are rows of a table, such as sentences in a CSV: read like files, one row each."""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.core.data.files import Folder, Source
from steps.core.data.manifests import COLUMNS_MARK, FIRST_LINE
from steps.core.data.tables import TABLE_ENDINGS, parse_table
from steps.core.system.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


class Rows:
    """Reads the rows of one table; a row's path is the file's name and its line: `reviews.csv:2`."""

    def __init__(self, url: str, cache: Path, known: "pd.DataFrame | None" = None) -> None:
        """Open `place/of/table.csv#column,column`; the table is read when it is needed.

        What a table of `known` rows (path, sha256) has the digest of is compared with it when it is read.
        """
        self.url = url
        place, _, columns = url.rpartition(COLUMNS_MARK)
        self.columns, self.folder = columns.split(","), Folder(place, cache)
        self.name = place.rpartition("/")[2]
        self.digests: dict[str, str] = {}
        if known is not None:
            self.digests = dict(zip(known["path"], known["sha256"], strict=True))

    @cached_property
    def cells(self) -> "pd.DataFrame":
        """The columns that are a sample."""
        return parse_table(self.folder)[self.columns]

    @cached_property
    def records(self) -> "list[dict[Any, Any]]":
        """The cells of every row; pandas takes a tenth of a millisecond to look one row up."""
        return self.cells.to_dict("records")

    def read(self, path: str) -> bytes:
        """Return one row as json: column to cell.

        Raises:
            DataError: There is no such row, or it is not what it was.
        """
        name, _, line = path.rpartition(":")
        if name != self.name or not line.isdecimal() or not 0 <= int(line) - FIRST_LINE < len(self.cells):
            raise DataError(f"{path} is no row of {self.url}")
        data = json.dumps(self.records[int(line) - FIRST_LINE], ensure_ascii=False, default=str).encode()
        if path in self.digests and hashlib.sha256(data).hexdigest() != self.digests[path]:
            raise DataError(
                f"{path} has changed since ingest_data read it: run the same command again, and change "
                "nothing in the data set while a run works on it"
            )
        return data


def columns_of_root(url: str) -> list[str]:
    """Return the columns that are a sample, where a manifest's root is a table; none for a folder."""
    place, mark, columns = url.rpartition(COLUMNS_MARK)
    return columns.split(",") if mark and place.lower().endswith(TABLE_ENDINGS) else []


def open_source(url: str, cache: Path, known: "pd.DataFrame | None" = None) -> Source:
    """Open what a manifest calls its root: a folder, or a table whose rows are the samples."""
    return Rows(url, cache, known) if columns_of_root(url) else Folder(url, cache, known)
