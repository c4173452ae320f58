"""The page of the test results: tables, figures and the worst mistakes."""

from typing import Any

import numpy as np

from steps.core.data.files import Source
from steps.core.evaluation.evaluation import EvaluationResult, Model
from steps.core.modalities.registry import modality_of
from steps.core.report import plots
from steps.core.report.html import render
from steps.core.tasks.label_sets import LabelSetPredictions
from steps.core.tasks.metrics import TITLES, SingleLabelPredictions
from steps.core.tasks.predictions import Predictions

PAIR_TITLES = {"gain": "fine-tuned minus warm head", "student_loss": "student minus fine-tuned"}


def render_evaluation(
    result: EvaluationResult,
    histories: dict[str, list[dict[str, Any]]],
    model: Model,
    source: Source,
    mistakes: int,
) -> str:
    """Render the page of the test results; the figures are of `model`, the candidate."""
    main = result.predictions_by_model[result.candidate]
    labels = model.meta["labels"]
    return render(
        "evaluation.html",
        metrics=result.metrics,
        headlines={name: {**TITLES, **main.titles}[name] for name in main.metrics},
        main=main.main,
        candidate=result.candidate,
        pairs={name: title for name, title in PAIR_TITLES.items() if name in result.metrics},
        confusion=draw_confusion(main, labels),
        sets=draw_labels(result.metrics["per_class"][result.candidate])
        if isinstance(main, LabelSetPredictions)
        else None,
        reliability=plots.reliability(result.metrics["reliability"]),
        curves=plots.curves(histories),
        coverage=plots.coverage_curves(result.metrics["coverage"]),
        robustness=by_corruption(result.metrics["robustness"]),
        mistakes=worst_mistakes(result, model, source, mistakes),
    )


def draw_confusion(main: Predictions, labels: list[str]) -> str | None:
    """Draw the confusion of classes; labels that may occur together cannot be confused."""
    if not isinstance(main, SingleLabelPredictions):
        return None
    return plots.confusion(main.confusion(np.arange(len(main.labels))), labels)


def draw_labels(rows: list[dict[str, Any]]) -> str:
    """Draw average precision and F1 of every label."""
    spans = {
        title: [row["intervals"][name] for row in rows]
        for name, title in (("average_precision", "average precision"), ("f1", "F1"))
    }
    return plots.interval_plot([row["class"] for row in rows], spans)


def by_corruption(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the accuracy at each strength, by corruption."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["corruption"], []).append(row["accuracy"])
    return found


def worst_mistakes(
    result: EvaluationResult, model: Model, source: Source, count: int
) -> list[dict[str, Any]]:
    """Return the candidate's most confident mistakes, with the samples, and where it looked."""
    network, kind = model.network(), modality_of(model.meta)
    table, name = result.predictions, result.candidate
    wrong = table[table[name] != table["label"]]
    worst = wrong.sort_values([f"{name}_confidence", "sha256"], ascending=[False, True])
    rows = []
    for row in worst.head(count).to_dict("records"):
        data = source.read(row["path"])
        heat = kind.attribute(
            network, model.preprocessing, model.preprocessing.view(model.preprocessing.decode(data))
        )
        rows.append(
            {
                "path": row["path"],
                "label": row["label"],
                "answer": row[name],
                "confidence": row[f"{name}_confidence"],
                "sample": kind.show(data, row["path"]),
                "heat": kind.show_attribution(data, model.preprocessing, heat),
            }
        )
    return rows
