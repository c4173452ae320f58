"""What the models were found to be worth: the report of the test set, and the promotion decision."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from steps.core.storage import Artifact, Blob, Headline, Record, read_json, read_table, table_bytes, to_json

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Report(Artifact):
    """What the test set says: metrics with intervals, the predictions behind them, the page."""

    metrics: dict[str, Any]
    predictions: "pd.DataFrame"
    html: str = field(repr=False)

    def files(self) -> Mapping[str, Blob]:
        return {
            "metrics.json": to_json(self.metrics),
            **self.plots(),
            "predictions.parquet": table_bytes(self.predictions),
            "report.html": self.html.encode(),
        }

    @classmethod
    def read(cls, folder: Path) -> Self:
        (metrics,) = read_json(folder, "metrics")
        html = (folder / "report.html").read_text(encoding="utf-8")
        return cls(metrics, read_table(folder / "predictions.parquet"), html)

    def plots(self) -> Mapping[str, Blob]:
        """Return what DVC draws, as tables."""
        tables = {
            "coverage": [
                {"model": model, **row}
                for model, rows in self.metrics.get("coverage", {}).items()
                for row in rows
            ],
            "reliability": self.metrics.get("reliability", {}).get("after", []),
            "answers": self.answers(),
        }
        return {f"{name}.json": to_json(rows) for name, rows in tables.items()}

    def answers(self) -> list[dict[str, Any]]:
        """Return true and answered label of each sample; of sets each label's, `none` where there is none."""
        known = self.predictions[[n for n in ("label", "finetuned") if n in self.predictions]]
        if self.main == "accuracy":
            return [{str(name): value for name, value in row.items()} for row in known.to_dict("records")]
        from steps.core.labels import parts

        rows = []
        for row in known.to_dict("records"):
            true, said = (set(parts(row[name])) for name in ("label", "finetuned"))
            for name in sorted(true | said):
                answer = {"label": name in true, "finetuned": name in said}
                rows.append({key: name if yes else "none" for key, yes in answer.items()})
        return rows

    @property
    def main(self) -> str:
        """The metric by which models are compared."""
        return str(self.metrics.get("main", "accuracy"))

    def headline(self) -> Headline:
        accuracies = {
            f"{model}_{self.main}": metrics[self.main]["value"]
            for model, metrics in self.metrics["models"].items()
        }
        gain = self.metrics["gain"][self.main]
        return {**accuracies, "gain_low": gain["low"], "gain_high": gain["high"]}


@dataclass(frozen=True)
class Decision(Artifact):
    """The promotion verdict, with the evidence of every gate.

    What a clock or the tracker's memory has told (`measured`: latencies, looks at the test set) is kept
    beside it: it is never the same twice, and no part of the digest.
    """

    verdict: str
    gates: list[dict[str, Any]]
    registered: dict[str, Any]
    deployment: list[dict[str, Any]] = field(default_factory=list)
    """Each exported file: model, variant, size, agreement with torch, accuracy on the test set."""
    measured: dict[str, Any] = field(default_factory=dict)

    promoted: ClassVar[str] = "promoted"

    def files(self) -> Mapping[str, Blob]:
        names = ("verdict", "gates", "registered", "deployment")
        return {"decision.json": to_json({name: getattr(self, name) for name in names})}

    def remarks(self) -> Mapping[str, bytes]:
        return {"measured.json": to_json(self.measured)}

    @classmethod
    def read(cls, folder: Path) -> Self:
        facts, measured = read_json(folder, "decision", "measured")
        return cls(**facts, measured=measured)

    def evidence(self) -> list[dict[str, Any]]:
        """Return the gates with every figure, the measured ones too."""
        return [
            {**gate, "found": gate["found"] or self.measured["gates"][gate["gate"]]} for gate in self.gates
        ]

    def headline(self) -> Headline:
        passed = sum(gate["passed"] for gate in self.gates)
        return {"verdict": self.verdict, "gates": f"{passed}/{len(self.gates)}"}


@dataclass(frozen=True)
class Watch(Record):
    """Whether a retraining is worth its time, and why."""

    reasons: list[str]
    """Why to train; none: there is nothing to do."""
    champion: dict[str, str]
    """Name and version that the data set was compared for; no version: there is no champion."""
    counts: dict[str, int] = field(default_factory=dict)
    """Samples that are new or relabelled since."""
    tests: list[dict[str, Any]] = field(default_factory=list)
    """Of drift: what was tested, p, the limit, samples."""
    newest: list[str] = field(default_factory=list)
    """SHA-256 of every new sample."""

    file: ClassVar[str] = "watch.json"

    @property
    def verdict(self) -> str:
        """What to do."""
        return "retrain" if self.reasons else "nothing to do"

    def headline(self) -> Headline:
        return {"verdict": self.verdict, "why": "; ".join(self.reasons) or "no reason", **self.counts}


@dataclass(frozen=True)
class Newest(Record):
    """The champion and its challenger on old and on new test images, apart."""

    parts: dict[str, Any]
    """Of frozen and newest: samples, and accuracy with interval of each model, and the paired gain."""

    file: ClassVar[str] = "newest.json"

    def headline(self) -> Headline:
        return {
            f"{part}_{name}": figure["value"]
            for part, found in self.parts.items()
            for name, figure in found["accuracy"].items()
        }
