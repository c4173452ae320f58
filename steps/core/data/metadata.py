"""A folder of samples with a table beside them that says their labels, as `datasets` and Roboflow do it."""

import logging
from collections.abc import Sequence
from typing import Any

import pandas as pd

from steps.core.data.columns import choose, told
from steps.core.data.files import Folder
from steps.core.data.label_columns import label_by_name, named
from steps.core.data.manifests import SampleKinds, canonical, locate, normalise_manifest, tell
from steps.core.data.settings import Columns
from steps.core.data.splits import SPLIT_NAMES
from steps.core.data.tables import parse_bytes
from steps.core.system.errors import DataError

INDICATORS = "_classes.csv"  # Roboflow's: a column of 0 and 1 for every class
METADATA_NAMES = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet", INDICATORS)
PATH_NAMES = ("path", "file_name", "filename", "image")
log = logging.getLogger("headstart")


def find_metadata(files: Sequence[str]) -> list[str]:
    """Return the paths of the tables that speak of the samples in their own folder and below."""
    return [path for path in files if path.rpartition("/")[2].lower() in METADATA_NAMES]


def read_metadata(
    folder: Folder, files: Sequence[str], tables: Sequence[str], kinds: SampleKinds, said: Columns | None
) -> pd.DataFrame | None:
    """Return path, label or labels, split, group; None where the tables say no label and folders may.

    Args:
        folder: Of the data set.
        files: Its paths.
        tables: Those of the tables.
        kinds: What is a sample.
        said: What the parameters say of the columns.

    Raises:
        DataError: A table cannot be read, or the tables have different columns.
    """
    parsed = {path: parse_bytes(f"{folder.url}/{path}", folder.read(path)) for path in tables}
    first = parsed[tables[0]][0]
    for path, (table, _) in parsed.items():
        if set(table) != set(first):
            raise DataError(
                f"{folder.url}/{path} has the columns {list(table)}, and {tables[0]} {list(first)}: "
                "expected the same"
            )
    silent = label_by_name(first, tables[0]) is None and not (said and said.label)
    if silent and not tables[0].endswith(INDICATORS) and lie_in_classes(files, kinds.endings):
        log.info("%s has no column label: the classes are the folders", tables[0])
        return None
    paths = [one for path, (table, _) in parsed.items() for one in located(folder, path, table, kinds, said)]
    whole = pd.concat([table for table, _ in parsed.values()], ignore_index=True)
    name = f"{folder.url}/{tables[0]}" if len(tables) == 1 else f"{folder.url} ({', '.join(tables)})"
    chosen = choose(whole, name, said, path_column(first, tables[0], said))
    rows = canonical(whole, chosen, paths, name)
    if "split" not in rows:
        rows["split"] = [SPLIT_NAMES.get(str(path).split("/")[0].lower()) for path in rows["path"]]
    tell(", ".join(tables), chosen, parsed[tables[0]][1], str(rows["path"].iloc[0]) if len(rows) else "")
    left = samples_of(files, kinds.endings, set(rows["path"]))
    if left:
        log.info("%d files have no row in %s and are not used, such as %s", len(left), tables[0], left[0])
    return normalise_manifest(rows, name)


def located(
    folder: Folder, path: str, table: pd.DataFrame, kinds: SampleKinds, said: Columns | None
) -> list[Any]:
    """Return the files of a table's rows, which lie in its own folder."""
    above, slash, _ = path.rpartition("/")
    column = path_column(table, path, said)
    return locate(table, f"{folder.url}/{path}", folder, kinds, column, f"{above}{slash}")[1]


def path_column(table: pd.DataFrame, name: str, said: Columns | None) -> str | None:
    """Return the column of file names, if it is told or called as usual."""
    if said and said.path:
        return told(table, said.path, "path", name)
    return next((column for wanted in PATH_NAMES if (column := named(table, wanted))), None)


def samples_of(files: Sequence[str], endings: tuple[str, ...], used: set[str]) -> list[str]:
    """Return the samples among files that are not used."""
    return [path for path in files if path.lower().endswith(endings) and path not in used]


def lie_in_classes(files: Sequence[str], endings: tuple[str, ...]) -> bool:
    """Say whether every sample lies in a folder that is none of a split, and so in one of a class."""
    parts = [path.split("/") for path in samples_of(files, endings, set())]
    return all(len(one) > 1 and (len(one) > 2 or one[0].lower() not in SPLIT_NAMES) for one in parts)
