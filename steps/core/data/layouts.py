"""How a data set lies on disk, read into one table: path, label, split, group (the last two or None).

Layouts: `class/file`, `split/class/file`, a folder with a table beside its files (`metadata.csv`), or a
table or export with a row per sample. Where a sample may have several labels, the table's column is `labels`,
and each cell a set of them as text; see `steps.core.tasks.labelling.read_sets`.
"""

import logging
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from steps.core.data.boxes import refuse_boxes
from steps.core.data.exports import EXPORT_ENDINGS, read_export
from steps.core.data.files import Folder
from steps.core.data.manifests import SampleKinds, composed, read_manifest
from steps.core.data.metadata import find_metadata, read_metadata
from steps.core.data.settings import Columns
from steps.core.data.splits import SPLIT_NAMES
from steps.core.data.tables import TABLE_ENDINGS, parse_table
from steps.core.system.errors import DataError

FILE_ENDINGS = (*TABLE_ENDINGS, *EXPORT_ENDINGS)
EXPECTED = "expected class/file, split/class/file"
PARTS = frozenset({"images", "image", "imgs", "img", "jpegimages", "masks", "mask", "labels", "annotations"})
TECHNICAL = PARTS | {*SPLIT_NAMES, "data", "dataset", "set", "files", "resized", "unlabelled", "unlabeled"}
log = logging.getLogger("headstart")


def read_layout(
    root: str, cache: Path, kinds: SampleKinds, said: Columns | None = None
) -> tuple[str, pd.DataFrame]:
    """Return what the paths are relative to (see `steps.core.data.rows.open_source`), and the table.

    Args:
        root: A folder or a file, or a URL of one.
        cache: Where copies of remote files are kept.
        kinds: What is a sample.
        said: What the parameters say of a table's columns.

    Raises:
        DataError: There is nothing there that could be a data set.
    """
    folder = Folder(root, cache)
    if folder.is_file():
        lower = folder.root.lower()
        if lower.endswith(EXPORT_ENDINGS):
            return read_export(folder, cache, kinds, said)
        if not lower.endswith(TABLE_ENDINGS):
            raise DataError(
                f"{folder.root} is neither a folder nor a manifest ({', '.join(FILE_ENDINGS)}): set "
                "ingest_data.path to one"
            )
        return read_manifest(folder, cache, kinds, said)
    files = folder.list()
    if tables := find_metadata(files):
        table = read_metadata(folder, files, tables, kinds, said)
        if table is not None:
            return folder.url, table
    endings = kinds.endings_of(files)
    refuse_boxes(folder, files, endings)
    return folder.url, read_class_folders(root, files, endings)


def read_class_folders(root: str, files: Sequence[str], endings: tuple[str, ...]) -> pd.DataFrame:
    """Read the layouts that say the class, and perhaps the split, by folders; see `read_layout`."""
    table = pd.DataFrame([path_row(path) for path in files if path.lower().endswith(endings)])
    tables = [path for path in files if "/" not in path and path.lower().endswith(FILE_ENDINGS)]
    hint = f"; if {', '.join(tables[:3])} says the labels, set ingest_data.path to it" if tables else ""
    if table.empty:
        raise DataError(
            f"{root} holds no samples ({', '.join(endings)}): {EXPECTED}, "
            f"or a manifest ({', '.join(TABLE_ENDINGS)}) with columns path and label{hint}"
        )
    wrapped = wrapping_folders(table["parts"])
    table["parts"] = table["parts"].map(lambda parts: parts[len(wrapped) :])
    if (table["parts"].str.len() < 2).any():
        loose = table.loc[table["parts"].str.len() < 2, "path"].iloc[0]
        raise DataError(
            f"{root}/{loose} lies in no class folder: expected class/file; move it into one, or name it in a "
            f"table{hint}"
        )
    firsts = {parts[0].lower() for parts in table["parts"]}
    named = firsts & set(SPLIT_NAMES)
    if named and (named != firsts or (table["parts"].str.len() < 3).any()):
        raise DataError(
            f"{root} has folders {sorted(firsts)}, of which {sorted(named)} are names of splits: expected "
            f"split/class/file throughout, or class/file without such names; a manifest can say "
            f"anything{hint}"
        )
    depth = 1 if named else 0
    splits = [SPLIT_NAMES[parts[0].lower()] if named else None for parts in table["parts"]]
    labels = [composed(parts[depth]) for parts in table["parts"]]
    refuse_technical(root, labels, splits, hint)
    tell_classes("/".join(wrapped), table["parts"].map(lambda parts: parts[depth:-1]), set(labels))
    found = {"path": table["path"], "label": labels, "split": splits, "group": None}
    return pd.DataFrame(found).astype({"split": object, "group": object})


def refuse_technical(root: str, labels: Sequence[str], splits: Sequence[str | None], hint: str) -> None:
    """Refuse folders that are called like a part of a data set where those of classes should be.

    Raises:
        DataError: All of a split's are.
    """
    found: dict[str | None, set[str]] = {}
    for label, split in zip(labels, splits, strict=True):
        found.setdefault(split, set()).add(label)
    for split, names in found.items():
        words = [{*re.split(r"[\W_\d]+", name.lower())} - {""} for name in names]
        if all(one and one <= TECHNICAL and one & {*SPLIT_NAMES, *PARTS} for one in words):
            inside = f" of {split}" if split else ""
            raise DataError(
                f"{root}: the folders {sorted(names)}{inside} are called like parts of a data set, not like "
                f"classes: {EXPECTED}, or a table that says the label of every file{hint}"
            )


def wrapping_folders(parts: "pd.Series[Any]") -> list[str]:
    """Return the folders that hold everything else, as an archive's own does: they are no classes."""
    found: list[str] = []
    while True:
        depth = len(found)
        firsts = {one[depth] if len(one) > depth + 2 else "" for one in parts}
        if (
            len(firsts) > 1
            or "" in firsts
            or firsts & {*SPLIT_NAMES, *(name.title() for name in SPLIT_NAMES)}
        ):
            return found
        found.append(firsts.pop())


def tell_classes(wrapped: str, folders: "pd.Series[Any]", labels: set[str]) -> None:
    """Say in one line where classes are taken from, if folders lie above or below those of the classes."""
    below = sorted({"/".join(one) for one in folders if len(one) > 1})
    if below:
        log.info(
            "%sthe classes are %d folders; what lies deeper belongs to them, as %s to %s",
            f"{wrapped}: " * bool(wrapped), len(labels), below[0], below[0].partition("/")[0],
        )  # fmt: skip
    elif wrapped:
        log.info("the classes are the %d folders in %s", len(labels), wrapped)


def list_samples(root: str, cache: Path, kinds: SampleKinds) -> tuple[Folder, list[str]]:
    """Return a data set's folder and the files that it consists of, without reading them.

    Of a table whose paths are no files as they stand these are all samples beside it.

    Raises:
        DataError: There is no such folder, or the manifest cannot be parsed.
    """
    folder = Folder(root, cache)
    if not folder.is_file():
        return folder, folder.list()
    parent = folder.parent(cache)
    table = parse_table(folder) if root.lower().endswith(TABLE_ENDINGS) else pd.DataFrame()
    paths = list(table["path"].dropna().astype(str)) if "path" in table else []
    rows_are_samples = not paths and bool(kinds.columns_of(table))
    if parent.can_list and not rows_are_samples and not (paths and parent.holds_all(paths)):
        paths = [path for path in parent.list() if path.lower().endswith(kinds.endings)]
    return parent, list(dict.fromkeys([root.rpartition("/")[2], *paths]))


def find_ignored_files(
    folder: Folder, endings: tuple[str, ...], used: Collection[str] = ()
) -> dict[str, list[str]]:
    """Return what lies in a folder of samples and is not taken: by the reason, paths.

    Behind a URL only files are seen, no empty folders and no links.

    Args:
        folder: Of the data set.
        endings: Of samples, in lower case.
        used: The paths that are taken; none for all samples.
    """
    reasons = ("hidden", "no sample", "empty folder", "link out", "no row")
    found: dict[str, list[str]] = {reason: [] for reason in reasons}
    if not folder.local:
        return found
    taken = set(used)
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
            elif name in files and taken and path not in taken:
                found["no row"].append(path)
        folders[:] = [name for name in folders if not name.startswith(".")]
        if not folders and not any(name.lower().endswith(endings) for name in files):
            found["empty folder"].append(inside)
    return {reason: sorted(paths) for reason, paths in found.items()}


def path_row(path: str) -> dict[str, object]:
    """Keep a path with its parts."""
    return {"path": path, "parts": path.split("/")}
