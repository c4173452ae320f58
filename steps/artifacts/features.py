"""What frozen stages make of the samples."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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

    from steps.artifacts.plan import Plan


@dataclass(frozen=True)
class Features(Artifact):
    """A cache of frozen stages, in shards that are memory-mapped; see `steps.core.features.cache`.

    A shard of features holds what every stage puts out for one view of each sample, `stage<i>` and
    `deviation<i>` (samples, 1, channels); one of a prefix holds h (samples, views, *shape at the boundary)
    or, at the top, z (samples, views, features). `index` has a row per sample: sha256, path, label
    (a number), split, shard, row.
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

    def without_shards(self, plan: "Plan") -> Self:
        """Return what a plan that trains no stage needs of a prefix: the samples alone."""
        keep = plan.readout["keep"]
        found = {"stages": keep, "boundary": keep, "views": 0, "bytes_per_view": 0, "readout": plan.readout}
        return replace(self, shards={}, meta={**self.meta, **found, "skipped": plan.skipped})

    def headline(self) -> Headline:
        if "skipped" in self.meta:
            return {"skipped": self.meta["skipped"]}
        stored = sum(path.stat().st_size for path in self.shards.values())
        found: Headline = {
            "samples": len(self.index_table),
            "megabytes": round(stored / 1e6, 1),
            "kilobytes_per_view": round(self.meta["bytes_per_view"] / 1e3, 1),
        }
        if "boundary" not in self.meta:
            return {**found, "stages": self.meta["stages"]}
        boundary = f"{self.meta['boundary']} of {self.meta['stages']}"
        found |= {"views": self.meta["views"], "boundary": boundary}
        kept = [name for name, row in self.meta.get("symmetries", {}).items() if row["kept"]]
        mirrored = " and ".join(f"{name.replace('_', ' ')}s" for name in kept)
        return {**found, "symmetries": mirrored} if mirrored else found

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        if "skipped" in headline:
            return f"skipped: {headline['skipped']}"
        kept = f"{headline['megabytes']} MB kept"
        if "boundary" not in headline:
            return f"what {headline['stages']} stages make of {headline['samples']} samples, {kept}"
        boundary = str(headline["boundary"]).replace(" of ", " of the network's ")
        views = f"in {headline['views']} random views, " if headline["views"] else ""
        said = f"the first {boundary} stages, computed once for {headline['samples']} samples, {views}{kept}"
        return f"{said}; training sees {headline['symmetries']}" if "symmetries" in headline else said

    def lineage(self) -> dict[str, str]:
        return {"weights_digest": self.meta["weights_sha256"]}
