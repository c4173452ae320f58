"""What is known of a sample before it is decoded: content digest, size, format, mode."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from steps.core.data.files import Source, map_in_threads
from steps.core.data.manifests import composed
from steps.core.system.cells import unquoted
from steps.core.system.errors import DataError
from steps.core.system.progress import count
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
    facts = map_in_threads(lambda path: describe_sample(source, path, describe, blank), paths, 64)
    rows = list(count(facts, "reading", len(paths), "file"))
    described = pd.concat([table.reset_index(drop=True), pd.DataFrame(rows)], axis=1)
    return described.reindex(columns=[*COLUMNS, *blank, "error"]).astype(
        {"error": object, "corrected_from": object}
    )


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
    rows = rows.assign(path=rows["path"].map(unquoted), label=rows["label"].map(unquoted))
    strange = sorted(set(rows["path"]) - set(table["path"]))
    if strange:
        raise DataError(
            f"ingest_data.corrections: {file} names files that do not exist: {strange[:5]}; correct the "
            "paths, or remove the lines"
        )
    normalised = rows["label"].map(composed).map(labelling.normalised)
    new = table["path"].map(dict(zip(rows["path"], normalised, strict=True)))
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
