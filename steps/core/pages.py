"""The page of the test results: tables, pictures and the worst mistakes."""

from typing import Any

import numpy as np

from steps.core import plots
from steps.core.evaluation import MAIN, Model, Verdict
from steps.core.files import Folder
from steps.core.html import render
from steps.core.images import plain_view, read_image
from steps.core.saliency import saliency

HEADLINES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_auroc": "macro AUROC",
    "nll": "log loss, nats",
    "ece": "ECE, calibrated",
    "ece_uncalibrated": "ECE, as trained",
}


def render_evaluation(
    verdict: Verdict,
    histories: dict[str, list[dict[str, Any]]],
    model: Model,
    folder: Folder,
    mistakes: int,
) -> str:
    """Render the page of the test results; the pictures are of `model`, the fine-tuned one."""
    main = verdict.outcomes[MAIN]
    labels = model.meta["labels"]
    rows = np.arange(len(main.labels))
    return render(
        "evaluation.html",
        metrics=verdict.metrics,
        headlines=HEADLINES,
        confusion=plots.confusion(main.confusion(rows), labels),
        reliability=plots.reliability(verdict.metrics["reliability"]),
        curves=plots.curves(histories),
        coverage=plots.coverage_curves(verdict.metrics["coverage"]),
        robustness=by_corruption(verdict.metrics["robustness"]),
        mistakes=worst_mistakes(verdict, model, folder, mistakes),
    )


def by_corruption(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the accuracy at each strength, by corruption."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["corruption"], []).append(row["accuracy"])
    return found


def worst_mistakes(verdict: Verdict, model: Model, folder: Folder, count: int) -> list[dict[str, Any]]:
    """Return the fine-tuned model's most confident mistakes, with pictures, and where it looked."""
    network = model.network()
    table = verdict.predictions
    wrong = table[table["finetuned"] != table["label"]]
    worst = wrong.sort_values(["finetuned_confidence", "sha256"], ascending=[False, True])
    rows = []
    for row in worst.head(count).to_dict("records"):
        data = folder.read(row["path"])
        heat = saliency(network, model.look, plain_view(read_image(data), model.look))
        rows.append(
            {
                "path": row["path"],
                "label": row["label"],
                "answer": row["finetuned"],
                "confidence": row["finetuned_confidence"],
                "picture": plots.thumbnail(data),
                "heat": plots.overlay(data, model.look, heat),
            }
        )
    return rows
