"""The frozen-prefix cache."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from steps.core.system.storage import (
    Artifact,
    Blob,
    Headline,
    read_json,
    read_table,
    table_bytes,
    to_json,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Features(Artifact):
    """The frozen-prefix cache: z and h of every (sample, view), in shards that are memory-mapped.

    A shard holds z (samples, views, features) and h (samples, views, *shape at the boundary).
    `index` has a row per sample: sha256, path, label (a number), split, shard, row.
    """

    index_table: "pd.DataFrame"
    shards: dict[str, Path] = field(hash=False)
    meta: dict[str, Any]

    def files(self) -> Mapping[str, Blob]:
        return {
            "index.parquet": table_bytes(self.index_table),
            "features.json": to_json(self.meta),
            **self.shards,
        }

    @classmethod
    def read(cls, folder: Path) -> Self:
        shards = {path.name: path for path in sorted(folder.glob("*.safetensors"))}
        return cls(read_table(folder / "index.parquet"), shards, *read_json(folder, "features"))

    def headline(self) -> Headline:
        stored = sum(path.stat().st_size for path in self.shards.values())
        return {
            "samples": len(self.index_table),
            "views": self.meta["views"],
            "boundary": f"{self.meta['boundary']} of {self.meta['stages']}",
            "megabytes": round(stored / 1e6, 1),
            "kilobytes_per_view": round(self.meta["bytes_per_view"] / 1e3, 1),
        }

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        kept = f"{headline['megabytes']} MB kept"
        boundary = str(headline["boundary"]).replace(" of ", " of the backbone's ")
        return f"the first {boundary} stages, computed once for {headline['samples']} samples, {kept}"

    def lineage(self) -> dict[str, str]:
        return {"weights_digest": self.meta["weights_sha256"]}
