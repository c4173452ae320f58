"""The model card (Mitchell et al. 2019, "Model cards for model reporting"), rendered from the run."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pandas as pd

from steps.core.modalities.registry import modality_of, preprocessing_of
from steps.core.report.html import render
from steps.core.tasks.labelling import Labelling


class AuditedDataset(Protocol):
    """A data set, as an artifact holds it."""

    @property
    def labels(self) -> list[str]:
        """The class names."""

    @property
    def labelling(self) -> Labelling:
        """How the column of labels is read."""

    @property
    def verdict(self) -> str:
        """What the audit came to: pass, warn or fail."""

    def part(self, split: str) -> pd.DataFrame:
        """Return the rows of one split."""

    @property
    def digest(self) -> str:
        """Of its content."""


class Trained(Protocol):
    """A classifier, as an artifact holds it."""

    @property
    def meta(self) -> dict[str, Any]:
        """Backbone, labels, preprocessing, temperature."""

    @property
    def digest(self) -> str:
        """Of its content."""


class EvaluationReport(Protocol):
    """A report, as an artifact holds it."""

    @property
    def metrics(self) -> dict[str, Any]:
        """Of the test set."""


def render_card(
    name: str,
    data: AuditedDataset,
    model: Trained,
    report: EvaluationReport,
    verdict: str,
    gates: Sequence[Mapping[str, Any]],
    candidate: str,
    explanation: Sequence[str],
) -> str:
    """Return the card as Markdown; `candidate` is the model's name in the report, `explanation` sentences."""
    metrics = report.metrics
    rows = sorted(metrics["per_class"][candidate], key=lambda row: row["f1"])
    return render(
        "card.md",
        name=name,
        verdict=verdict,
        gates=gates,
        candidate=candidate,
        reason=metrics.get("candidate", {}).get("reason", ""),
        explanation=explanation,
        model=model,
        licence=modality_of(model.meta).licence(model.meta["backbone"]),
        graph=modality_of(model.meta).input_graph(preprocessing_of(model.meta)),
        metrics=metrics["models"][candidate],
        classes=rows,
        slices=metrics.get("slices", [])[:5],
        robustness=metrics.get("robustness", []),
        test=metrics["test"],
        data=data,
        counts={split: len(data.part(split)) for split in ("train", "val", "test")},
    )
