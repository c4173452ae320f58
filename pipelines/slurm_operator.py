"""Slurm as a ZenML step operator: single phases become jobs, from whatever orchestrates the others."""

from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat
from zenml.client import Client
from zenml.config.base_settings import BaseSettings
from zenml.enums import ExecutionStatus
from zenml.models import StepRunResponse
from zenml.step_operators import BaseStepOperator, BaseStepOperatorConfig, BaseStepOperatorFlavor
from zenml.step_operators.step_operator_entrypoint_configuration import StepOperatorEntrypointConfiguration

from pipelines import jobs, step_errors
from pipelines.job_errors import job_error
from pipelines.slurm import RunsInPlace, SlurmSettings, log_file, plain_log

if TYPE_CHECKING:
    from zenml.config.step_run_info import StepRunInfo


class SlurmOperatorStep(RunsInPlace, StepOperatorEntrypointConfiguration):
    """A step that another orchestrator has given to Slurm."""


class SlurmStepOperatorConfig(BaseStepOperatorConfig, SlurmSettings):
    """The component's own settings, which a step may override."""

    poll: PositiveFloat = Field(default=2.0, description="Seconds between looks at the job.")


class SlurmStepOperator(BaseStepOperator):
    """Sends single steps to Slurm, from whatever orchestrates the others."""

    @property
    def settings_class(self) -> type[BaseSettings]:
        """Return what a step may set."""
        return SlurmSettings

    @property
    def entrypoint_config_class(self) -> type[StepOperatorEntrypointConfiguration]:
        """Return what the job runs."""
        return SlurmOperatorStep

    def submit(self, info: "StepRunInfo", entrypoint_command: list[str], environment: dict[str, str]) -> None:
        """Submit the step as a job."""
        settings = self.get_settings(info)
        assert isinstance(settings, SlurmSettings)
        words = settings.words(info.config.resource_settings)
        log = log_file(info.run_name, info.pipeline_step_name)
        own = {**plain_log(), **environment}
        with step_errors.RecordError(info.run_name, info.pipeline_step_name):
            self.job = jobs.submit(info.pipeline_step_name, entrypoint_command, log, words, own)

    def wait(self, step_run: StepRunResponse) -> ExecutionStatus:
        """Follow the job to its end; cancel it if this process is ended before.

        Raises:
            HeadstartError: See `SlurmOrchestrator.wait`.
        """
        ended = False
        try:
            for now in jobs.follow([self.job], self.config.poll):  # type: ignore[attr-defined]
                job = now[self.job]
            ended = True
        finally:
            if not ended:
                jobs.cancel([self.job])
        if job.state == jobs.COMPLETED:
            return ExecutionStatus.COMPLETED
        run = Client().get_pipeline_run(step_run.pipeline_run_id)
        log = log_file(run.name, step_run.name)
        with step_errors.RecordError(run.name, step_run.name):
            raise job_error(run.id, step_run.name, f"job {self.job} {job}", log)


class SlurmStepOperatorFlavor(BaseStepOperatorFlavor):
    """Registered by `make stack NAME=local-slurm`."""

    @property
    def name(self) -> str:
        """Return the flavor's name."""
        return "slurm"

    @property
    def config_class(self) -> type[BaseStepOperatorConfig]:
        """Return what the component may be configured with."""
        return SlurmStepOperatorConfig

    @property
    def implementation_class(self) -> type[BaseStepOperator]:
        """Return what it does."""
        return SlurmStepOperator
