"""A data set of the hub, written out once as a folder that `read_layout` reads."""

import shutil
import tempfile
from pathlib import Path
from typing import Any, Protocol

from steps.core.data.files import HUB
from steps.core.system.errors import DataError


class HubKinds(Protocol):
    """Who can write a split of the hub as files; see `steps.core.modalities.registry.Known`."""

    def write_hub_split(self, rows: Any, folder: Path) -> None:
        """Write a `datasets.Dataset` below a folder.

        Raises:
            DataError: No modality knows its columns.
        """


def local_copy(path: str, cache: Path, kinds: HubKinds) -> str:
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
        write_dataset(splits, folder, kinds)
    return str(folder)


def write_dataset(splits: Any, folder: Path, kinds: HubKinds) -> None:
    """Write a `datasets.DatasetDict` as a folder of one of the layouts, all or nothing.

    Raises:
        DataError: No modality knows its columns.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for split, rows in splits.items():
            kinds.write_hub_split(rows, staged / split)
        staged.chmod(0o755)
        staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
