"""The page of the test results: tables, pictures and the worst mistakes."""

from typing import Any

import numpy as np

from steps.core import plots
from steps.core.evaluation import Verdict, reliability_rows
from steps.core.files import Folder
from steps.core.html import render

HEADLINES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "nll": "log loss, nats",
    "ece": "ECE, calibrated",
    "ece_uncalibrated": "ECE, as trained",
}


def render_evaluation(
    verdict: Verdict,
    histories: dict[str, list[dict[str, Any]]],
    labels: list[str],
    folder: Folder,
    mistakes: int,
) -> str:
    """Render the page of the test results; the fine-tuned model's pictures come first."""
    main = verdict.outcomes["finetuned"]
    rows = np.arange(len(main.labels))
    return render(
        "evaluation.html",
        metrics=verdict.metrics,
        headlines=HEADLINES,
        confusion=plots.confusion(main.confusion(rows), labels),
        reliability=plots.reliability(reliability_rows(main)),
        curves=plots.curves(histories),
        mistakes=worst_mistakes(verdict, folder, mistakes),
    )


def worst_mistakes(verdict: Verdict, folder: Folder, count: int) -> list[dict[str, Any]]:
    """Return the fine-tuned model's most confident mistakes, with pictures."""
    table = verdict.predictions
    wrong = table[table["finetuned"] != table["label"]]
    worst = wrong.sort_values(["finetuned_confidence", "sha256"], ascending=[False, True])
    return [
        {
            "path": row["path"],
            "label": row["label"],
            "answer": row["finetuned"],
            "confidence": row["finetuned_confidence"],
            "picture": plots.thumbnail(folder.read(row["path"])),
        }
        for row in worst.head(count).to_dict("records")
    ]
