"""The page of the audit: the findings, and the offenders side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from steps.core.audit.audit import Audit
from steps.core.data.files import Source
from steps.core.modalities.contract import Modality
from steps.core.report.html import render

SHOWN = 12  # samples, or pairs, of one finding


def render_audit(
    findings: Sequence[Mapping[str, Any]],
    found: Audit,
    modality: Modality,
    source: Source,
    table: pd.DataFrame,
    samples: int,
) -> str:
    """Render the page of a table of readable samples, of which `samples` are kept."""
    known = set(table["path"])
    galleries = [g for finding in findings if (g := gallery(finding, modality, source, known))]
    verdicts = [finding["verdict"] for finding in findings]
    return render(
        "audit.html",
        verdict=next(word for word in ("fail", "warn", "pass") if word in verdicts),
        samples=samples,
        left_out=len(table) - samples,
        leak_impact=found.leak_impact,
        findings=findings,
        galleries=galleries,
    )


def gallery(
    finding: Mapping[str, Any], modality: Modality, source: Source, known: set[str]
) -> dict[str, Any] | None:
    """Return the samples of one finding; none if it passes or is not about files that can be seen."""
    if finding["verdict"] == "pass":
        return None
    if pairs := finding.get("pairs"):
        shown = [([a, b], f"{a} | {b} ({similarity:.3f})") for a, b, similarity in pairs[:SHOWN]]
    else:
        values = [*finding["values"], *[""] * (len(finding["files"]) - len(finding["values"]))]
        names = zip(finding["files"], values, strict=True)
        shown = [([path], f"{path} {value}") for path, value in names][:SHOWN]
    rows = [
        {"samples": [modality.show(source.read(path)) for path in paths], "caption": caption}
        for paths, caption in shown
        if known.issuperset(paths)
    ]
    word = "Failed" if finding["verdict"] == "fail" else "Look at these"
    return {"title": f"{word}: {finding['check']}", "rows": rows} if rows else None
