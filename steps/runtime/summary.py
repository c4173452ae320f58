"""The report of a whole run: seconds per phase, the findings, the test results, the decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steps.artifacts.dataset import Dataset
from steps.artifacts.decision import Decision
from steps.artifacts.features import Features
from steps.artifacts.learning_rates import LearningRates
from steps.artifacts.models import Student
from steps.artifacts.plan import Plan
from steps.artifacts.report import Report
from steps.artifacts.stats import Stats
from steps.core.system.storage import headline_text, to_json, write_file

SHOWN = ("report", "dataset", "stats", "decision", "learning_rates", "student", "plan", "prefix")
"""The artifacts that the report is made from."""

PLAN = ("described", "readout", "boundary", "skipped", "predicted", "rows")


@dataclass(frozen=True)
class PhaseRow:
    """What one phase did in this run."""

    phase: str
    output: str
    seconds: float
    reused: bool
    digest: str
    headline: dict[str, Any]
    folder: Path


def write_report(folder: Path, run: str, rows: Sequence[PhaseRow]) -> Path:
    """Write report.html and report.json with the same numbers; return the folder."""
    from steps.core.report.html import render, with_contents
    from steps.core.report.pareto import pareto_rows
    from steps.core.report.plots import pareto
    from steps.core.tasks.label_sets import LabelSetPredictions
    from steps.core.tasks.metrics import TITLES

    places = {row.output: row.folder for row in rows}
    report = Report.load(places["report"])
    dataset = Dataset.load(places["dataset"])
    stats = Stats.load(places["stats"])
    decision = Decision.load(places["decision"])
    search = LearningRates.load(places["learning_rates"])
    student = Student.load(places["student"])
    plan, prefix = Plan.load(places["plan"]), Features.load(places["prefix"])
    content: dict[str, Any] = {
        "run": run,
        "phases": [
            {
                "phase": row.phase,
                "seconds": round(row.seconds, 2),
                "reused": row.reused,
                "digest": row.digest,
                "numbers": row.headline,
            }
            for row in rows
        ],
        "models": report.metrics["models"],
        "pareto": pareto_rows(report.metrics, student.choice, student.figures),
        "comparisons": {
            key: report.metrics[key] for key in ("gain", "student_loss") if key in report.metrics
        },
        "per_class": report.metrics["per_class"],
        "search": {"summary": search.summary, "trials": search.trials},
        "findings": dataset.findings,
        "normalisation": stats.trial,
        "plan": {name: getattr(plan, name) for name in PLAN},
        "symmetries": prefix.meta.get("symmetries", {}),
        "candidate": report.candidate,
        "decision": {
            "verdict": decision.verdict,
            "gates": decision.evidence(),
            "registered": decision.registered,
            "deployment": decision.deployment,
            "measured": decision.measured,
            "candidate": decision.candidate,
            "explanation": decision.explanation(),
        },
    }
    pages = {"evaluation": report.html, "search_page": search.html, "audit_page": dataset.html}
    bodies = {name: body(html) for name, html in pages.items()}
    figure = pareto(content["pareto"]) if content["pareto"] else ""
    titles = {**TITLES, **(LabelSetPredictions.titles if dataset.label_sets else {})}
    content["forecast"] = report.metrics["models"]["warm_head"].get(plan.predicted.get("metric"))
    page = render("run.html", **content, **bodies, numbers=headline_text, figure=figure, titles=titles)
    write_file(folder / "report.json", to_json(content))
    write_file(folder / "report.html", with_contents(page).encode())
    return folder


def body(page: str) -> str:
    """Return what is inside the body of a page."""
    return page.partition("<body>")[2].rpartition("</body>")[0]
