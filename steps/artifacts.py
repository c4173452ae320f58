"""The nouns that travel between the phases. Each is frozen, and a folder of plain files on disk.

Importing this module must stay cheap (looking at the DAG needs the types only), so what reads the
files is imported where it is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from steps.core.storage import (
    Artifact,
    Blob,
    Headline,
    Record,
    read_json,
    read_table,
    table_bytes,
    to_json,
)

if TYPE_CHECKING:
    import pandas as pd

    from steps.core.images import Preprocessing
    from steps.core.labels import Labelling


@dataclass(frozen=True)
class Manifest(Artifact):
    """The data set as a table, a row per sample, in an order that does not depend on file names.

    Columns: path, label, split, group, sha256, bytes, format, mode, width, height, error.
    """

    table: "pd.DataFrame"
    root: str
    overlooked: dict[str, list[str]]
    """What lies in the folder and was not taken: by the reason, paths."""
    label_sets: bool = field(default=False, kw_only=True)
    """Whether a sample has a set of labels, written `a|b`, instead of exactly one."""

    def files(self) -> Mapping[str, Blob]:
        facts: dict[str, Any] = {"root": self.root, "overlooked": self.overlooked}
        facts |= {"label_sets": True} if self.label_sets else {}
        return {"manifest.parquet": table_bytes(self.table), "root.json": to_json(facts)}

    @classmethod
    def read(cls, folder: Path) -> Self:
        (facts,) = read_json(folder, "root")
        return cls(read_table(folder / "manifest.parquet"), **facts)

    def headline(self) -> Headline:
        counts = self.table["split"].value_counts()
        members = self.labelling.members(self.table["label"])
        several = {"labels_per_sample": round(len(members) / len(self.table), 3)} if self.label_sets else {}
        return {
            "samples": len(self.table),
            "classes": int(members.nunique()),
            **several,
            **{split: int(counts.get(split, 0)) for split in ("train", "val", "test")},
        }

    def part(self, split: str) -> "pd.DataFrame":
        """Return the rows of one split."""
        return self.table[self.table["split"] == split]

    @property
    def labelling(self) -> "Labelling":
        """How the column `label` is read."""
        from steps.core.labels import labelling

        return labelling(self.label_sets)


@dataclass(frozen=True)
class Dataset(Manifest):
    """The manifest without what is unfit, and what was found on the way."""

    findings: list[dict[str, Any]]
    suite: dict[str, Any]
    html: str = field(default="", repr=False)
    suspects: str = field(default="", repr=False)
    """Labels that look wrong, as .csv: path, label, suggested, self_confidence."""

    def files(self) -> Mapping[str, Blob]:
        return {
            **super().files(),
            "findings.json": to_json(self.findings),
            "suite.json": to_json(self.suite),
            "audit.html": self.html.encode(),
            "suspects.csv": self.suspects.encode(),
        }

    @classmethod
    def read(cls, folder: Path) -> Self:
        base = Manifest.read(folder)
        texts = ((folder / name).read_bytes().decode() for name in ("audit.html", "suspects.csv"))
        found = (*read_json(folder, "findings", "suite"), *texts)
        return cls(base.table, base.root, base.overlooked, *found, label_sets=base.label_sets)

    def headline(self) -> Headline:
        verdicts = [finding["verdict"] for finding in self.findings]
        removed = sum(len(finding["quarantined"]) for finding in self.findings)
        counts = {"quarantined": removed, "warnings": verdicts.count("warn")}
        return {**super().headline(), **counts, "verdict": self.verdict}

    @property
    def verdict(self) -> str:
        """The worst verdict of all findings: pass, warn or fail."""
        return max((f["verdict"] for f in self.findings), key=("pass", "warn", "fail").index, default="pass")

    def lineage(self) -> dict[str, str]:
        return {"data_digest": self.digest}

    @property
    def labels(self) -> list[str]:
        """The class names; a class's number is its place here."""
        return sorted(self.labelling.members(self.table["label"]).unique())


@dataclass(frozen=True)
class Stats(Record):
    """Per-channel mean and std, of the train split and of the pretraining, and which one is used."""

    dataset: dict[str, list[float]]
    pretrained: dict[str, list[float]]
    choice: str
    pixels: int
    preprocessing: dict[str, Any]
    trial: dict[str, Any]
    """How well a probe does with each way to normalise; empty where the params choose."""

    file: ClassVar[str] = "stats.json"

    def headline(self) -> Headline:
        mean, std = (" ".join(f"{v:.3f}" for v in self.dataset[key]) for key in ("mean", "std"))
        gains = {name: way["gain"]["value"] for name, way in self.trial.get("ways", {}).items()}
        return {"mean": mean, "std": std, "choice": self.choice, **{f"gain_{k}": v for k, v in gains.items()}}

    def look(self) -> "Preprocessing":
        """Return the preprocessing with the chosen statistics."""
        from steps.core.images import Preprocessing

        return Preprocessing.from_dict(self.preprocessing)


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

    def lineage(self) -> dict[str, str]:
        return {"weights_digest": self.meta["weights_sha256"]}
