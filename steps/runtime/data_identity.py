"""Which registered model a data set has, and that no other data set has the same one."""

import os
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from steps.core.system.errors import RegistryError
from steps.runtime.registry import DATA_ROOT, Registry

if TYPE_CHECKING:
    import pandas as pd

REMOTE = ("://", "hub:")


def model_name(name: str | None, data: str) -> str:
    """Return the registered model's name: as given, or after the last part of the data set's path.

    Letters of every script stay as they are; MLflow forbids no more than `/` and `:`.
    """
    if name is not None:
        return name
    path = data if any(mark in data for mark in REMOTE) else data_root(data)
    last = unicodedata.normalize("NFC", path.rstrip("/").rpartition("/")[2])
    kept = (c if not c.isascii() and c.isprintable() else re.sub(r"[^\w. -]", "-", c) for c in last)
    return "".join(kept) or "data"


def data_root(data: str) -> str:
    """Return where a data set lies, whatever folder one is in: the whole path, or the URL."""
    if any(mark in data for mark in REMOTE):
        return data.rstrip("/")
    return os.path.abspath(Path(data).expanduser())


def refuse_other_data(registry: Registry, table: "pd.DataFrame", least: float, scratch: Path) -> None:
    """See that the registered model is this data set's: it lies where that lay, or has its files.

    Args:
        registry: Of the data set's model, with its root.
        table: The data set.
        least: Share of the smaller set's files in common from which two are one.
        scratch: Where files of the registry are kept.

    Raises:
        RegistryError: It is of another one.
    """
    import pandas as pd

    from steps.core.audit.known_samples import KNOWN

    found = registry.client.search_registered_models(f"name = '{registry.name}'")
    root = found[0].tags.get(DATA_ROOT) if found else registry.data
    if root == registry.data:
        return
    kept = (registry.fetch_kept_file(str(version.version), KNOWN, scratch) for version in registry.versions())
    if (file := next((file for file in kept if file is not None), None)) is None:
        shared, whole = 0, 0
    else:
        known = set(pd.read_parquet(file, columns=["sha256"])["sha256"])
        own = set(table["sha256"])
        shared, whole = len(known & own), min(len(known), len(own))
    if root is None and not whole:
        return  # registered before roots and contents were kept: there is nothing to hold it against
    if shared < least * whole or not whole:
        raise RegistryError(
            f"the registered model {registry.name!r} is of the data set in {root or 'another place'}, and "
            f"ingest_data.path leads to {registry.data}: {shared} of {whole} files are in common, expected "
            f"{least:g} of them (promote.same_data). Two data sets never share a model: set promote.name"
        )
