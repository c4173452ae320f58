"""What is known of a sample before it is decoded: content digest, size, format, mode."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from steps.core.system.errors import DataError
from steps.core.data.files import HUB, Source, prefetched
from steps.core.tasks.labelling import Labelling

COLUMNS = ("path", "label", "corrected_from", "split", "group", "sha256", "bytes")

Describe = Callable[[bytes], dict[str, Any]]
"""Returns what a sample's first bytes say of it; raises DataError where they are no sample."""


def describe_samples(
    source: Source, table: pd.DataFrame, describe: Describe, blank: Mapping[str, Any]
) -> pd.DataFrame:
    """Add digest and facts of every sample; one that cannot be read gets an `error` instead.

    Args:
        source: Where the samples are read.
        table: path, label, split, group.
        describe: The facts of one sample.
        blank: Their names, and what stands for them where there are none.
    """
    paths = list(table["path"])
    facts = prefetched(lambda path: describe_sample(source, path, describe, blank), paths, 64)
    progress = tqdm(facts, "hashing", len(paths), unit="file", disable=None)
    described = pd.concat([table.reset_index(drop=True), pd.DataFrame(list(progress))], axis=1)
    return described.reindex(columns=[*COLUMNS, *blank, "error"]).astype({"error": object, "corrected_from": object})


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


def describe_sample(
    source: Source, path: str, describe: Describe, blank: Mapping[str, Any]
) -> dict[str, Any]:
    """Return digest, size, facts and error of one sample; see `describe_samples`."""
    try:
        data = source.read(path)
    except DataError as error:
        # Without content there is no digest; the path keeps the rows apart.
        unread = hashlib.sha256(f"unreadable {path}".encode()).hexdigest()
        return {"sha256": unread, "bytes": 0, **blank, "error": str(error)}
    known = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    try:
        return {**known, **describe(data), "error": None}
    except DataError as error:
        return {**known, **blank, "error": str(error)}


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
