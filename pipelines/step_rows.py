"""What ZenML knows of a run's steps, as rows of the report and lines of the terminal."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zenml.client import Client
from zenml.enums import ExecutionStatus
from zenml.models import StepRunResponse

from pipelines.materializer import CONTENT, HEADLINE, copy_tree
from steps.runtime.phase import load_phase
from steps.runtime.scratch import scratch
from steps.runtime.summary import SHOWN, PhaseRow
from steps.runtime.terminal import active


def show_reused(run: str) -> None:
    """Write the lines of the steps that ZenML has reused so far, if this process's run has a terminal."""
    if active() is not None:
        steps = Client().get_pipeline_run(run).steps.values()
        show_rows(row_of(step, fetch=False) for step in steps if step.status == ExecutionStatus.CACHED)


def show_rows(rows: Iterable[PhaseRow]) -> None:
    """Write the lines of phases that have none yet."""
    if (terminal := active()) is None:
        return
    for row in sorted(rows, key=lambda row: terminal.phases.index(row.phase)):
        found = load_phase(row.phase).function.__annotations__["return"].__origin__.in_words(row.headline)
        terminal.show_phase(row.phase, found, None if row.reused else row.seconds)


def row_of(step: StepRunResponse, fetch: bool = True) -> PhaseRow:
    """Return what one step did, with the folder of its artifact if that can be read here.

    With `fetch`, the artifacts that the report needs are fetched from where they cannot be read.
    """
    phase = load_phase(step.name)
    (output,) = step.outputs[phase.output]
    facts: dict[str, Any] = output.run_metadata
    reused = step.status == ExecutionStatus.CACHED
    seconds = 0.0
    if not reused and step.start_time and step.end_time:
        seconds = (step.end_time - step.start_time).total_seconds()
    digest = str(facts["digest"])
    folder = local_folder(f"{output.uri}/{CONTENT}", digest, fetch and phase.output in SHOWN)
    return PhaseRow(step.name, phase.output, seconds, reused, digest, facts[HEADLINE], folder)


def local_folder(place: str, digest: str, wanted: bool) -> Path:
    """Return an artifact's folder; one that is wanted is fetched from a remote store, once."""
    local = scratch() / "fetched" / digest
    if Path(place).is_dir() or not wanted:
        return Path(place)
    if not local.is_dir():
        copy_tree(place, local)
    return local
