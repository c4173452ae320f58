"""The end of a run: what it came to on the terminal, report.html and report.json beside each other."""

import sys
from collections.abc import Sequence
from pathlib import Path

from zenml.client import Client
from zenml.enums import ExecutionStatus
from zenml.models import PipelineRunResponse

from pipelines.step_rows import row_of, show_rows
from steps import PHASES
from steps.artifacts.dataset import Dataset
from steps.artifacts.decision import Decision
from steps.artifacts.report import Report
from steps.runtime import mlflow_client, tracking
from steps.runtime.closing import closing
from steps.runtime.journal import log_file_of
from steps.runtime.summary import PhaseRow, write_report
from steps.runtime.terminal import active

REPORTS = Path("reports")


def summarise(run: PipelineRunResponse, phases: Sequence[str] = PHASES) -> None:
    """Write and print the report of a run that is finished; others have nothing to report yet."""
    run = Client().get_pipeline_run(run.id)
    if run.status != ExecutionStatus.COMPLETED:
        return
    steps = run.steps
    rows = [row_of(steps[name]) for name in phases]
    folder = write_report(REPORTS / run.name, run.name, rows)
    places = {row.output: row.folder for row in rows}
    shown = (
        Dataset.load(places["dataset"]),
        Report.load(places["report"]),
        Decision.load(places["decision"]),
    )
    tracking.close_parent(run.name, folder, [artifact.run_summary() for artifact in shown])
    show(rows, folder / "report.html", run.name)


def show(rows: Sequence[PhaseRow], page: Path, run: str) -> None:
    """Write the lines of the phases that have none yet, and how the run ended."""
    places = {row.output: row.folder for row in rows}
    report, decision = Report.load(places["report"]), Decision.load(places["decision"])
    ending = closing(
        report, decision, page.absolute(), log_file_of(run).absolute(), mlflow_client.connect().tracking_uri
    )
    if (terminal := active()) is None:
        # ZenML's command line sends what is printed to stderr; a result belongs on stdout.
        print(ending, file=sys.__stdout__ or sys.stdout, flush=True)
        return
    show_rows(rows)
    terminal.result(ending)
