"""What is known of a sample before it is decoded: content digest, size, format, mode."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from steps.core.data.files import HUB, Folder, prefetched
from steps.core.modalities.image.pixels import open_image
from steps.core.system.errors import DataError
from steps.core.tasks.labelling import Labelling

COLUMNS = (
    "path", "label", "corrected_from", "split", "group", "sha256", "bytes", "format", "mode", "width",
    "height", "error",
)  # fmt: skip


def describe_files(folder: Folder, table: pd.DataFrame) -> pd.DataFrame:
    """Add digest and header of every file; one that cannot be read gets an `error` instead."""
    paths = list(table["path"])
    facts = prefetched(lambda path: describe_file(folder, path), paths, 64)
    progress = tqdm(facts, "hashing", len(paths), unit="file", disable=None)
    described = pd.concat([table.reset_index(drop=True), pd.DataFrame(list(progress))], axis=1)
    return described.reindex(columns=list(COLUMNS)).astype({"error": object, "corrected_from": object})


def correct_labels(table: pd.DataFrame, file: Path, labelling: Labelling) -> pd.DataFrame:
    """Apply labels that a person has corrected; `corrected_from` keeps what they were.

    Raises:
        DataError: The file cannot be read, or names a path that the data set does not have.
    """
    try:
        rows = pd.read_csv(file, dtype=str, encoding="utf-8-sig", keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"ingest_data.corrections: {file} cannot be read: {error}; save it as comma-separated UTF-8"
        ) from None
    if not {"path", "label"} <= set(rows.columns):
        raise DataError(f"ingest_data.corrections: {file} needs the columns path and label in its first line")
    strange = sorted(set(rows["path"]) - set(table["path"]))
    if strange:
        raise DataError(
            f"ingest_data.corrections: {file} names files that are not there: {strange[:5]}; correct the "
            "paths, or take the lines out"
        )
    written = rows["label"].map(labelling.written)
    new = table["path"].map(dict(zip(rows["path"], written, strict=True)))
    changed = new.notna() & (new != table["label"])
    old = table["label"].astype(object).where(changed, None)
    return table.assign(label=table["label"].where(~changed, new), corrected_from=old)


def describe_file(folder: Folder, path: str) -> dict[str, Any]:
    """Return digest, size, format, mode, width, height and error of one file."""
    facts: dict[str, Any] = dict.fromkeys(("sha256", "bytes", "format", "mode", "width", "height"))
    try:
        data = folder.read(path)
    except DataError as error:
        # Without content there is no digest; the path keeps the rows apart.
        unread = hashlib.sha256(f"unreadable {path}".encode()).hexdigest()
        return {**facts, "sha256": unread, "bytes": 0, "width": 0, "height": 0, "error": str(error)}
    facts.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), width=0, height=0, error=None)
    try:
        image = open_image(data)
    except DataError as error:
        return {**facts, "error": str(error)}
    return {
        **facts, "format": image.format, "mode": image.mode,
        "width": image.width, "height": image.height,
    }  # fmt: skip


def local_copy(path: str, cache: Path) -> str:
    """Return `path`; a data set of the hub (`hub:NAME`) is written out as a folder first."""
    if not path.startswith(HUB):
        return path
    from datasets import load_dataset

    name = path.removeprefix(HUB)
    folder = cache / "hub" / name.replace("/", "--")
    if not folder.is_dir():
        try:
            splits = load_dataset(name)
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(f"ingest_data.path: hub data set {name} cannot be loaded: {error}") from None
        write_dataset(splits, folder)
    return str(folder)


def write_dataset(splits: Any, folder: Path) -> None:
    """Write a `datasets.DatasetDict` with an image and a label column as split/class/file.

    Raises:
        DataError: There is no image column, or no class label column.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for split, rows in splits.items():
            write_split(rows, staged / split)
        staged.chmod(0o755)
        staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def write_split(rows: Any, folder: Path) -> None:
    """Write one split's pictures as class/file; see `write_dataset`."""
    from datasets import ClassLabel, Image

    image = next((k for k, kind in rows.features.items() if isinstance(kind, Image)), None)
    label = next((k for k, kind in rows.features.items() if isinstance(kind, ClassLabel)), None)
    if image is None or label is None:
        raise DataError(
            f"split {folder.name} has columns {list(rows.features)}; expected an image and a label"
        )
    names = rows.features[label].names
    for number, row in enumerate(rows.cast_column(image, Image(decode=False))):
        source = row[image]
        data = source["bytes"] or Path(source["path"]).read_bytes()
        ending = Path(source["path"] or "x.png").suffix or ".png"
        target = folder / class_folder(names, row[label]) / f"{number:07d}{ending}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def class_folder(names: list[str], number: int | None) -> str:
    """Return a folder's name for a class, whatever the class is called.

    Raises:
        DataError: There is no label: the hub writes -1 or nothing where labels are hidden.
    """
    if number is None or number < 0:
        raise DataError("the data set has pictures without a label: take a split that has them all")
    name = names[number].replace("%", "%25").replace("/", "%2F")
    return f"%2E{name[1:]}" if name.startswith(".") else name
