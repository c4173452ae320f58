"""The end of a run: one table on the screen, report.html and report.json beside each other."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zenml.client import Client
from zenml.enums import ExecutionStatus
from zenml.models import PipelineRunResponse, StepRunResponse

from pipelines.materializer import CONTENT, HEADLINE, copy_tree
from steps import PHASES
from steps.runtime import tracking
from steps.runtime.phase import load_phase
from steps.runtime.scratch import scratch
from steps.runtime.summary import SHOWN, PhaseRow, show, write_report

REPORTS = Path("reports")


def summarise(run: PipelineRunResponse, phases: Sequence[str] = PHASES) -> None:
    """Write and print the report of a run that is finished; others have nothing to report yet."""
    run = Client().get_pipeline_run(run.id)
    if run.status != ExecutionStatus.COMPLETED:
        return
    steps = run.steps
    rows = [row_of(steps[name]) for name in phases]
    folder = write_report(REPORTS / run.name, run.name, rows)
    tracking.close_parent(run.name, folder)
    # ZenML's command line sends what is printed to stderr; a result belongs on stdout.
    show(rows, folder / "report.html", sys.__stdout__ or sys.stdout)


def row_of(step: StepRunResponse) -> PhaseRow:
    """Return what one step did, with the folder of its artifact if that can be read here."""
    phase = load_phase(step.name)
    (output,) = step.outputs[phase.output]
    facts: dict[str, Any] = output.run_metadata
    reused = step.status == ExecutionStatus.CACHED
    seconds = 0.0
    if not reused and step.start_time and step.end_time:
        seconds = (step.end_time - step.start_time).total_seconds()
    digest = str(facts["digest"])
    folder = local_folder(f"{output.uri}/{CONTENT}", digest, phase.output in SHOWN)
    return PhaseRow(step.name, phase.output, seconds, reused, digest, facts[HEADLINE], folder)


def local_folder(place: str, digest: str, wanted: bool) -> Path:
    """Return an artifact's folder; one that is wanted is fetched from a remote store, once."""
    local = scratch() / "fetched" / digest
    if Path(place).is_dir() or not wanted:
        return Path(place)
    if not local.is_dir():
        copy_tree(place, local)
    return local
