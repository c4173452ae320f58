"""The samples of a batch that the model is least sure of, on one page, for a person to look at."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from steps.core.report.html import render

CHOICES = 3  # classes that are named below a sample, the likeliest first


def contact_sheet(
    answers: pd.DataFrame,
    classes: Sequence[str],
    show: Callable[[str], str],
    count: int,
    facts: dict[str, Any],
) -> str:
    """Return the page.

    Args:
        answers: From `steps.core.export.batch.as_answers`.
        classes: The model's, in its order.
        show: Returns the sample at a path as HTML.
        count: Samples on the page, at most.
        facts: model, data, samples, abstained, skipped (path and error each), and drift in words.
    """
    least = answers.sort_values(["confidence", "path"]).head(count)
    rows = []
    for row in least.to_dict("records"):
        known = sorted(((row[f"p {name}"], name) for name in classes), reverse=True)[:CHOICES]
        choices = ", ".join(f"{name} {p:.2f}" for p, name in known)
        rows.append({**row, "choices": choices, "sample": show(row["path"])})
    return render("contact_sheet.html", rows=rows, **facts)
