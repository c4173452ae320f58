"""Runs whose process was killed: ZenML would show them as running for ever."""

import logging

from zenml.client import Client
from zenml.enums import ExecutionStatus, StackComponentType
from zenml.models import PipelineRunResponse, PipelineRunUpdate
from zenml.models.v2.misc.exception_info import ExceptionInfo
from zenml.orchestrators.publish_utils import publish_step_run_status_update

from steps.core.system.process_owner import is_alive

OWNER = "owner"
REASON = "its process was killed; marked as failed by the next run, which continues from what was finished"
UNFINISHED = (ExecutionStatus.INITIALIZING, ExecutionStatus.PROVISIONING, ExecutionStatus.RUNNING)

log = logging.getLogger("headstart")


def fail_stale_runs(pipeline: str) -> list[str]:
    """Mark runs of a pipeline as failed whose process is known to have ended; return their names.

    A run that another machine has begun, or whose owner is not known, is left alone, as is one that does
    not run in the process that began it.
    """
    failed = []
    for status in UNFINISHED:
        for run in Client().list_pipeline_runs(pipeline=pipeline, status=status, size=100, hydrate=True):
            if process_has_ended(run):
                mark_failed(run)
                failed.append(run.name)
    return failed


def process_has_ended(run: PipelineRunResponse) -> bool:
    """Say whether the process that was this run has ended."""
    here = (
        run.stack is not None
        and run.stack.components[StackComponentType.ORCHESTRATOR][0].flavor_name == "local"
    )
    name = run.config.extra.get(OWNER)
    return here and name is not None and is_alive(str(name)) is False


def mark_failed(run: PipelineRunResponse) -> None:
    """Mark a run, and its step that was running, as failed, with the reason."""
    why = ExceptionInfo(traceback=REASON)
    for step in run.steps.values():
        if not step.status.is_finished:
            publish_step_run_status_update(step.id, ExecutionStatus.FAILED, exception_info=why)
    update = PipelineRunUpdate(status=ExecutionStatus.FAILED, status_reason=REASON, exception_info=why)
    Client().zen_store.update_run(run.id, update)
    log.warning("%s is marked as failed: %s", run.name, REASON)
