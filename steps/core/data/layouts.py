"""How a data set lies on disk, read into one table: path, label, split, group (the last two or None).

Layouts: `class/file`, `split/class/file`, or a CSV or parquet manifest with columns path and label
and, if wanted, split and group. Where a manifest holds several labels in a cell, the table's column is
`labels`, and each cell a set of them as text; see `read_sets`.
"""

import hashlib
import io
import os
import warnings
from pathlib import Path

import pandas as pd

from steps.core.data.files import Folder
from steps.core.system.errors import DataError
from steps.core.tasks.labelling import read_sets

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jfif")
MANIFEST_ENDINGS = (".csv", ".parquet")


def read_layout(root: str, cache: Path) -> tuple[Folder, pd.DataFrame]:
    """Return the folder that the paths are relative to, and the table.

    Raises:
        DataError: There is nothing there that could be a data set.
    """
    folder = Folder(root, cache)
    if folder.is_file():
        return folder.parent(cache), read_manifest(folder)
    rows = [path_row(path) for path in folder.list() if path.lower().endswith(IMAGE_ENDINGS)]
    if not rows:
        raise DataError(
            f"{root} holds no images: expected class/file, split/class/file, or a manifest "
            f"({', '.join(MANIFEST_ENDINGS)}) with columns path and label"
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
    table["group"] = None
    return folder, table[["path", "label", "split", "group"]]


def list_samples(root: str, cache: Path) -> tuple[Folder, list[str]]:
    """Return a data set's folder and the files that it consists of, without reading them."""
    folder = Folder(root, cache)
    if not folder.is_file():
        return folder, folder.list()
    folder, table = read_layout(root, cache)
    return folder, [root.rpartition("/")[2], *table["path"]]


def overlooked(folder: Folder) -> dict[str, list[str]]:
    """Return what lies in a folder of pictures and is not taken: by the reason, paths.

    Behind a URL only files are seen, no empty folders and no links.
    """
    found: dict[str, list[str]] = {"hidden": [], "no picture": [], "empty folder": [], "link out": []}
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
            elif name in files and not path.lower().endswith(IMAGE_ENDINGS):
                found["no picture"].append(path)
        folders[:] = [name for name in folders if not name.startswith(".")]
        if not folders and not any(name.lower().endswith(IMAGE_ENDINGS) for name in files):
            found["empty folder"].append(inside)
    return {reason: sorted(paths) for reason, paths in found.items()}


def path_row(path: str) -> dict[str, object]:
    """Keep a path with its parts."""
    return {"path": path, "parts": path.split("/")}


def read_manifest(folder: Folder) -> pd.DataFrame:
    """Read a manifest file.

    Raises:
        DataError: It cannot be parsed, a column is missing, or a split has an unknown name.
    """
    name, data = folder.root, folder.read_root()
    try:
        table = parse_manifest(name, data)
    except (ValueError, OSError, pd.errors.ParserWarning) as error:  # UnicodeDecodeError is a ValueError
        raise DataError(
            f"{name} cannot be read as a manifest in UTF-8: {error}; save it as comma-separated "
            "UTF-8, or as parquet"
        ) from None
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
    if table.empty:
        raise DataError(f"{name} has no rows: write a line for every picture")
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
                f"{name} line {row}: {needed} is empty; fill it in, or take the line out"
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
        return pd.read_parquet(io.BytesIO(data))
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


def assign_splits(table: pd.DataFrame, fractions: dict[str, float], seed: int) -> list[str]:
    """Return a split per row; rows that have one keep it.

    A row's place is a hash of the seed and its group (or, without one, of its content), so adding
    files never moves old ones, copies of one picture stay together, and groups are never divided.
    Splits that the data set brings along are never added to by this, except that a missing one is
    carved out of train.
    """
    given = set(table["split"].dropna())
    if given and "train" not in given and table["split"].notna().all():
        raise DataError(f"the data set has splits {sorted(given)} but no train: name one of them so")
    open_splits = [s for s in SPLITS if s == "train" or s not in given]
    total = sum(fractions[s] for s in open_splits)

    def place(key: str) -> str:
        digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64 * total
        for split in reversed(open_splits):  # test first: its members depend on its own share only
            position -= fractions[split]
            if position < 0:
                return split
        return "train"

    keys = table["group"].where(table["group"].notna(), table["sha256"])
    return [
        split if isinstance(split, str) and split != "train" else place(str(key))
        for split, key in zip(table["split"], keys, strict=True)
    ]
