"""Slurm as a ZenML orchestrator: one sbatch per step, each after the steps that it needs.

The nodes share the project's folder, the environment and the artifact store by a file system, as clusters
do. ZenML's sqlite file serves where all see it as one local file; elsewhere take a ZenML server.
"""

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from pydantic import Field, PositiveFloat
from zenml.client import Client
from zenml.config.base_settings import BaseSettings
from zenml.config.step_configurations import Step
from zenml.entrypoints.step_entrypoint_configuration import StepEntrypointConfiguration
from zenml.enums import ExecutionStatus
from zenml.models import PipelineRunResponse, PipelineRunUpdate, PipelineSnapshotResponse
from zenml.orchestrators import BaseOrchestrator, BaseOrchestratorConfig, BaseOrchestratorFlavor
from zenml.orchestrators.base_orchestrator import SubmissionResult
from zenml.orchestrators.publish_utils import publish_pipeline_run_status_update
from zenml.utils import source_utils

from pipelines import jobs
from pipelines.finetune import without_integrations
from pipelines.job_errors import job_error
from steps.core.system.errors import ClusterError
from steps.runtime.scratch import scratch

if TYPE_CHECKING:
    from zenml.config.resource_settings import ResourceSettings
    from zenml.stack import Stack

RUN = "HEADSTART_SLURM_RUN"
JOBS = "slurm_jobs"


class SlurmSettings(BaseSettings):
    """What a step may ask of Slurm beside its `resources`."""

    partition: str | None = Field(default=None, description="Queue of the job; the cluster's own by default.")
    account: str | None = Field(default=None, description="Who pays.")
    time: str | None = Field(default=None, description="Longest running time, as sbatch writes it: 2:00:00.")
    options: list[str] = Field(default=[], description="More words for sbatch: [--constraint=a100].")

    def words(self, resources: "ResourceSettings") -> list[str]:
        """Return what sbatch is told: these settings, and cpus, memory and gpus from `resources`."""
        own = {"partition": self.partition, "account": self.account, "time": self.time}
        words = [f"--{key}={value}" for key, value in own.items() if value]
        if resources.cpu_count:
            words.append(f"--cpus-per-task={math.ceil(resources.cpu_count)}")
        if memory := resources.get_memory("MiB"):
            words.append(f"--mem={math.ceil(memory)}M")
        if resources.gpu_count:
            kind = f":{resources.gpu_class}" if resources.gpu_class else ""
            words.append(f"--gres=gpu{kind}:{resources.gpu_count}")
        return [*words, *self.options]


class RunsInPlace:
    """A step's entrypoint that runs where the job has been sent, with the submitter's Python."""

    @classmethod
    def get_entrypoint_command(cls) -> list[str]:
        """Return how the step's process is started."""
        return [sys.executable, "-m", "zenml.entrypoints.entrypoint"]

    def prepare_code_environment(self) -> None:
        """Find the code in the working directory: the file system is shared, there is nothing to fetch."""
        if not Client().root:
            source_utils.set_custom_source_root(os.getcwd())

    def run(self) -> None:
        """Run the step."""
        with without_integrations():
            super().run()  # type: ignore[misc]


class SlurmStep(RunsInPlace, StepEntrypointConfiguration):
    """A step of a run that is orchestrated by Slurm."""


class SlurmOrchestratorConfig(BaseOrchestratorConfig, SlurmSettings):
    """The stack's own settings, which a step may override."""

    poll: PositiveFloat = Field(default=2.0, description="Seconds between looks at the jobs.")

    @property
    def is_synchronous(self) -> bool:
        """The submitting command waits, reports, and cancels the jobs when it is interrupted."""
        return True


class SlurmOrchestrator(BaseOrchestrator):
    """Submits every step as a job that depends on the jobs of the steps before it."""

    @property
    def settings_class(self) -> type[BaseSettings]:
        """Return what a step may set."""
        return SlurmSettings

    def get_orchestrator_run_id(self) -> str:
        """Return the id that all jobs of a run share."""
        return os.environ[RUN]

    def submit_pipeline(
        self,
        snapshot: PipelineSnapshotResponse,
        stack: "Stack",
        base_environment: dict[str, str],
        step_environments: dict[str, dict[str, str]],
        placeholder_run: PipelineRunResponse | None = None,
    ) -> SubmissionResult:
        """Submit all jobs; the result waits for them."""
        if placeholder_run is None:
            raise ClusterError("Slurm runs what is submitted now; for a schedule see infra/README.md")
        run, key = placeholder_run, str(uuid4())
        Client().zen_store.update_run(run.id, PipelineRunUpdate(orchestrator_run_id=key))
        submitted: dict[str, int] = {}
        try:
            for name, step in snapshot.step_configurations.items():
                environment = {**plain_log(), **step_environments[name], RUN: key}
                submitted[name] = self.submit_step(snapshot, run, name, step, environment, submitted)
        except ClusterError:
            jobs.cancel(list(submitted.values()))
            raise
        return SubmissionResult(lambda: self.wait(run, submitted), {JOBS: dict(submitted)})

    def submit_step(
        self,
        snapshot: PipelineSnapshotResponse,
        run: PipelineRunResponse,
        name: str,
        step: Step,
        environment: dict[str, str],
        submitted: dict[str, int],
    ) -> int:
        """Submit one step; return the number of its job."""
        settings = self.get_settings(step)
        assert isinstance(settings, SlurmSettings)
        command = SlurmStep.get_entrypoint_command()
        command += SlurmStep.get_entrypoint_arguments(step_name=name, snapshot_id=snapshot.id)
        words = settings.words(step.config.resource_settings)
        after = [submitted[before] for before in step.spec.upstream_steps]
        return jobs.submit(name, command, log_file(run.name, name), words, environment, after)

    def wait(self, run: PipelineRunResponse, submitted: dict[str, int]) -> None:
        """Follow the jobs to their end.

        Raises:
            HeadstartError: The phase's own error, or what Slurm says of a job that did not run to its end.
        """
        names = {number: name for name, number in submitted.items()}
        try:
            last: dict[int, jobs.Job] = {}
            for now in jobs.follow(list(names), self.config.poll):  # type: ignore[attr-defined]
                for number, job in now.items():
                    if job != last.get(number) and job.reason != "Dependency":
                        jobs.log.info("%s: job %s %s", names[number], number, job)
                last = now
        except KeyboardInterrupt:
            self.end(run, list(names))
            raise ClusterError(f"interrupted; the jobs of {run.name} are cancelled") from None
        for number, job in last.items():
            if job.state != jobs.COMPLETED:
                name = names[number]
                raise job_error(run.id, name, f"job {number} {job}", log_file(run.name, name))

    def end(self, run: PipelineRunResponse, numbers: Sequence[int]) -> None:
        """Cancel the jobs, wait until they are gone, and say so in ZenML."""
        publish_pipeline_run_status_update(run.id, ExecutionStatus.STOPPING, "Manual stop requested.")
        jobs.cancel(numbers)
        for _ in jobs.follow(numbers, 1):
            pass
        if not Client().get_pipeline_run(run.id).status.is_finished:
            # Computed anew from the steps, of which none is running any more: stopped.
            publish_pipeline_run_status_update(run.id, ExecutionStatus.STOPPING)

    def _stop_run(self, run: PipelineRunResponse, graceful: bool = False) -> None:
        """Do what `zenml pipeline runs stop` asks for; a job always gets the time to end well."""
        self.end(run, list(run.run_metadata[JOBS].values()))  # type: ignore[union-attr]


class SlurmOrchestratorFlavor(BaseOrchestratorFlavor):
    """Registered by `make stack NAME=slurm`."""

    @property
    def name(self) -> str:
        """Return the flavor's name."""
        return "slurm"

    @property
    def config_class(self) -> type[BaseOrchestratorConfig]:
        """Return what the component may be configured with."""
        return SlurmOrchestratorConfig

    @property
    def implementation_class(self) -> type[BaseOrchestrator]:
        """Return what it does."""
        return SlurmOrchestrator


def plain_log() -> dict[str, str]:
    """Return this process's environment, with a log that a file can hold."""
    return {**os.environ, "ZENML_LOGGING_COLORS_DISABLED": "true"}


def log_file(run: str, step: str) -> Path:
    """Return where Slurm writes what a job prints; ZenML keeps the step's own log in the artifact store."""
    return scratch() / "slurm" / run / f"{step}.log"
