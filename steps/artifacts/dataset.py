"""The data set as a table: as it was found, and as it is fit to train on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from steps.core.system.storage import (
    Artifact,
    Blob,
    Headline,
    RunSummary,
    read_json,
    read_table,
    table_bytes,
    to_json,
)

if TYPE_CHECKING:
    import pandas as pd

    from steps.core.tasks.labelling import Labelling


@dataclass(frozen=True)
class Manifest(Artifact):
    """The data set as a table, a row per sample, in an order that does not depend on file names.

    Columns: path, label, corrected_from, split, group, sha256, bytes, what the modality knows of a sample
    before it is decoded, error.
    """

    table: "pd.DataFrame"
    root: str
    overlooked: dict[str, list[str]]
    """What lies in the folder and was not taken: by the reason, paths."""
    label_sets: bool = field(default=False, kw_only=True)
    """Whether a sample has a set of labels, written `a|b`, instead of exactly one."""
    modality: str = field(default="image", kw_only=True)
    """What a sample is; see `steps.core.modalities.registry`."""

    def files(self) -> Mapping[str, Blob]:
        facts: dict[str, Any] = {
            "root": self.root,
            "overlooked": self.overlooked,
            "modality": self.modality,
        }
        facts |= {"label_sets": True} if self.label_sets else {}
        return {"manifest.parquet": table_bytes(self.table), "root.json": to_json(facts)}

    @classmethod
    def read(cls, folder: Path) -> Self:
        (facts,) = read_json(folder, "root")
        return cls(read_table(folder / "manifest.parquet"), **facts)

    def headline(self) -> Headline:
        counts = self.table["split"].value_counts()
        members = self.labelling.explode(self.table["label"])
        several = {"labels_per_sample": round(len(members) / len(self.table), 3)} if self.label_sets else {}
        return {
            "samples": len(self.table),
            "classes": int(members.nunique()),
            **several,
            **{split: int(counts.get(split, 0)) for split in ("train", "val", "test")},
        }

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        parts = "{train} to train on, {val} for validation, {test} for the test".format(**headline)
        classes = "1 class" if headline["classes"] == 1 else f"{headline['classes']} classes"
        return f"{headline['samples']} samples in {classes}: {parts}"

    def part(self, split: str) -> "pd.DataFrame":
        """Return the rows of one split."""
        return self.table[self.table["split"] == split]

    @property
    def labelling(self) -> "Labelling":
        """How the column `label` is read."""
        from steps.core.tasks.labelling import labelling

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
        return cls(
            base.table, base.root, base.overlooked, *found, label_sets=base.label_sets, modality=base.modality
        )

    def headline(self) -> Headline:
        verdicts = [finding["verdict"] for finding in self.findings]
        removed = sum(len(finding["quarantined"]) for finding in self.findings)
        counts = {"quarantined": removed, "warnings": verdicts.count("warn")}
        return {**super().headline(), **counts, "verdict": self.verdict}

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        found = {"pass": "nothing wrong found", "fail": "a check failed"}
        words = found.get(str(headline["verdict"]), f"{headline['warnings']} warning(s), see the report")
        out = f"; {headline['quarantined']} file(s) left out" if headline["quarantined"] else ""
        return f"the data were checked: {words}{out}"

    @property
    def verdict(self) -> str:
        """The worst verdict of all findings: pass, warn or fail."""
        return max((f["verdict"] for f in self.findings), key=("pass", "warn", "fail").index, default="pass")

    def lineage(self) -> dict[str, str]:
        return {"data_digest": self.digest}

    def run_summary(self) -> RunSummary:
        name = self.root.rstrip("/").rpartition("/")[2] or self.root
        profile = {**super().headline(), "classes": len(self.labels), "verdict": self.verdict}
        data = {"name": name, "digest": self.digest, "source": self.root, "profile": profile}
        return RunSummary(name, tags={"data": name}, data=data)

    @property
    def labels(self) -> list[str]:
        """The class names; a class's number is its place here."""
        return sorted(self.labelling.explode(self.table["label"]).unique())
