"""What a model answered to samples whose label nobody knows."""

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
class BatchPredictions(Artifact):
    """An answer per sample, a page of the least sure ones, and whether the data are as in training."""

    table: "pd.DataFrame"
    """See `steps.core.export.batch.as_answers`."""
    facts: dict[str, Any]
    """model, version, data, samples, abstained, drift (the tests' rows, and in words), skipped."""
    html: str = field(repr=False)

    def files(self) -> Mapping[str, Blob]:
        return {
            "predictions.parquet": table_bytes(self.table),
            "batch.json": to_json(self.facts),
            "contact_sheet.html": self.html.encode(),
        }

    @classmethod
    def read(cls, folder: Path) -> Self:
        (facts,) = read_json(folder, "batch")
        html = (folder / "contact_sheet.html").read_text(encoding="utf-8")
        return cls(read_table(folder / "predictions.parquet"), facts, html)

    def headline(self) -> Headline:
        numbers = ("samples", "abstained")
        counts = {name: int(self.facts[name]) for name in numbers}
        return {**counts, "skipped": len(self.facts["skipped"]), "drift": str(self.facts["drift_in_words"])}

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        counted = "{samples} samples answered, {abstained} of them unsure; {skipped} not readable".format(
            **headline
        )
        return f"{counted}. {headline['drift']}"
