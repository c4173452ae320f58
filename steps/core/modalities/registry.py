"""Which modality a data set, a cache or a model is of, by name."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from steps.core.data.rows import columns_of_root
from steps.core.system.errors import DataError

if TYPE_CHECKING:
    from steps.core.modalities.contract import Modality
    from steps.core.modalities.parts import Preprocessing, Views

IMAGE, TEXT = "image", "text"
BUILT_IN: Mapping[str, str] = {
    IMAGE: "steps.core.modalities.image.modality",
    TEXT: "steps.core.modalities.text.modality",
}
"""Modules by name. One of a package of its own has the package's dotted name."""


def modality(name: str) -> "Modality":
    """Return a modality by the name that stands in a manifest, a cache's or a model's metadata."""
    return cast("Modality", import_module(BUILT_IN.get(name, f"{name}.modality")))


def modality_of(meta: Mapping[str, Any]) -> "Modality":
    """Return the modality of a cache or a model."""
    return modality(meta["modality"])


def preprocessing_of(meta: Mapping[str, Any]) -> "Preprocessing":
    """Return the preprocessing of a cache or a model."""
    return modality_of(meta).preprocessing(meta["preprocessing"])


def views_of(meta: Mapping[str, Any]) -> "Views":
    """Return the views that a cache was filled with."""
    return modality_of(meta).views_of(meta)


@dataclass(frozen=True)
class Known:
    """The modalities that are built in, and packages that bring one."""

    packages: tuple[str, ...] = ()

    @cached_property
    def modalities(self) -> dict[str, "Modality"]:
        """By name."""
        return {name: modality(name) for name in (*BUILT_IN, *self.packages)}

    @property
    def endings(self) -> tuple[str, ...]:
        """Of all files that are samples, in lower case."""
        return tuple(ending for one in self.modalities.values() for ending in one.endings)

    def endings_of(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Return the endings of the modality that most of the files are samples of.

        Beside images there may lie a .txt that explains them.
        """
        return self.modalities[self.most_frequent(paths)].endings

    @property
    def unread_endings(self) -> dict[str, str]:
        """Of samples that are not read here, and what to do with them."""
        return {ending: way for one in self.modalities.values() for ending, way in one.unread_endings.items()}

    def columns_of(self, table: "pd.DataFrame") -> list[str]:
        """Return the columns of a table that are a sample each row, for the first modality that has any."""
        found = (one.columns_of(table) for one in self.modalities.values())
        return next((columns for columns in found if columns), [])

    def write_hub_split(self, rows: Any, folder: Path) -> None:
        """Write a split of a hub data set by the first modality that knows its columns.

        Raises:
            DataError: None does.
        """
        for one in self.modalities.values():
            if one.fits_hub(rows.features):
                return one.write_hub_split(rows, folder)
        wanted = ", ".join(self.modalities)
        raise DataError(
            f"split {folder.name} has columns {list(rows.features)}; expected a label and a sample ({wanted})"
        )

    def recognise(self, root: str, paths: Iterable[str]) -> str:
        """Return the modality of a data set: whose columns its rows have, or whose endings most files.

        Args:
            root: What the paths are relative to; see `steps.core.data.rows.open_source`.
            paths: Of all samples.
        """
        if columns := columns_of_root(root):
            rows = pd.DataFrame(columns=columns)
            return next(name for name, one in self.modalities.items() if one.columns_of(rows) == columns)
        return self.most_frequent(paths)

    def most_frequent(self, paths: Iterable[str]) -> str:
        """Return the modality that most of the files are samples of; of equals the first."""
        lower = [str(path).lower() for path in paths]
        counts = {
            name: sum(path.endswith(one.endings) for path in lower)
            for name, one in self.modalities.items()
            if one.endings
        }
        return max(counts, key=lambda name: counts[name])
