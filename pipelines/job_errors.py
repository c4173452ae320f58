"""Why a step that ran in another process has failed, told in the process that the user has started."""

from pathlib import Path
from uuid import UUID

from zenml.client import Client
from zenml.enums import ExecutionStatus
from zenml.models import ExceptionInfo
from zenml.orchestrators.publish_utils import publish_failed_pipeline_run, publish_failed_step_run
from zenml.utils.exception_utils import reconstruct_exception

from steps.core.system.errors import ClusterError, HeadstartError

TAIL = 20  # lines of the log that are shown
RUN_AGAIN = "Start the same command again: phases that have finished are reused."


def job_error(run: UUID, step: str, job_state: str, log: Path) -> HeadstartError:
    """Return the error that ended a step, and see to it that ZenML knows that it has ended.

    It is the phase's own error where there is one; else it says what became of the job (`job_state`).
    """
    client = Client()
    found = client.get_pipeline_run(run)
    if found.status in (ExecutionStatus.STOPPED, ExecutionStatus.STOPPING):
        return ClusterError(f"{found.name} was stopped: {step}, {job_state}")
    begun = found.steps.get(step)
    exception = client.get_run_step(begun.id).exception_info if begun else None
    if exception and isinstance(known := reconstruct_exception(exception, job_state), HeadstartError):
        return known
    if begun and not begun.status.is_finished:
        publish_failed_step_run(begun.id)
    elif not found.status.is_finished:
        publish_failed_pipeline_run(run)
    return ClusterError(f"{step}: {job_state}\n{traceback_or_log(exception, log)}\n{RUN_AGAIN}")


def traceback_or_log(exception: ExceptionInfo | None, log: Path) -> str:
    """Return the traceback, or where there is none the last lines of what the job has printed."""
    if exception:
        return f"{exception.traceback.strip()}\nIts log: {log}"
    if not log.is_file():
        return f"It has not written its log, {log}."
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([f"The end of {log}:", *(f"  {line}" for line in lines[-TAIL:])])
