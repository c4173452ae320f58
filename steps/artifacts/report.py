"""What the models are worth on the test set."""

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
        """Return true and predicted label of each sample; of sets each label's, `none` where it is not."""
        known = self.predictions[[n for n in ("label", self.candidate) if n in self.predictions]]
        known = known.rename(columns={self.candidate: "predicted"})
        if self.main == "accuracy":
            return [{str(name): value for name, value in row.items()} for row in known.to_dict("records")]
        from steps.core.tasks.labelling import split_labels

        rows = []
        for row in known.to_dict("records"):
            true, predicted = (set(split_labels(row[name])) for name in ("label", "predicted"))
            for name in sorted(true | predicted):
                answer = {"label": name in true, "predicted": name in predicted}
                rows.append({key: name if yes else "none" for key, yes in answer.items()})
        return rows

    @property
    def main(self) -> str:
        """The metric by which models are compared."""
        return str(self.metrics.get("main", "accuracy"))

    @property
    def candidate(self) -> str:
        """The model that is put forward."""
        return str(self.metrics.get("candidate", {}).get("chosen", "finetuned"))

    def headline(self) -> Headline:
        accuracies = {
            f"{model}_{self.main}": metrics[self.main]["value"]
            for model, metrics in self.metrics["models"].items()
        }
        found = {"candidate": self.candidate, **accuracies}
        if "gain" not in self.metrics:
            return found
        gain = self.metrics["gain"][self.main]
        return {**found, "gain_low": gain["low"], "gain_high": gain["high"]}

    def run_summary(self) -> RunSummary:
        figures = self.metrics["models"][self.candidate]
        metrics: dict[str, float] = {}
        for name in ("accuracy", "map", "macro_auroc", "macro_f1", "ece"):
            if name in figures:
                ends = {f"{name}_{end}": float(figures[name][end]) for end in ("low", "high")}
                metrics |= {name: float(figures[name]["value"]), **ends}
        return RunSummary(metrics=metrics, tags={"model": self.candidate})

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        for main in ("accuracy", "map"):
            found = {name: value for name, value in headline.items() if name.endswith(f"_{main}")}
            if found:
                each = (f"{n.removesuffix(f'_{main}').replace('_', ' ')} {v:.3f}" for n, v in found.items())
                return f"{main} on test: {', '.join(each)}"
        return super().in_words(headline)
