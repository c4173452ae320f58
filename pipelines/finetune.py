"""The pipeline: one step per phase, wired by the names in the phases' signatures."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from zenml.integrations.registry import IntegrationRegistry
from zenml.models import PipelineRunResponse
from zenml.pipelines.pipeline_definition import Pipeline

from pipelines import phases, step_errors
from pipelines.stale_runs import OWNER, fail_stale_runs
from pipelines.summary import summarise
from steps import PHASES
from steps.core.system.process_owner import process_name
from steps.runtime.phase import Phase, all_configs, all_phases
from steps.runtime.terminal import terminal

logging.getLogger("headstart").setLevel(logging.INFO)


def wire() -> None:
    """Call every phase's step on the artifacts that its arguments name."""
    chain(all_phases())


def chain(sequence: Iterable[Phase]) -> None:
    """Call the steps of these phases, in this order."""
    configs = all_configs()
    artifacts: dict[str, Any] = {}
    for phase in sequence:
        inputs = {name: artifacts[name] for name in phase.inputs}
        artifacts[phase.output] = getattr(phases, phase.name)(**inputs, cfg=configs[phase.name])


class FinetunePipeline(Pipeline):
    """A ZenML pipeline that ends with its report, and whose mistakes read as one block."""

    def __call__(self, *args: Any, **kwargs: Any) -> PipelineRunResponse | None:
        """Run on the active stack; then write the report if the run has ended here."""
        with run_context(self, PHASES):
            run = super().__call__(*args, **kwargs)
            if run is not None:
                summarise(run)
        return run


@contextmanager
def run_context(pipeline: Pipeline, sequence: Sequence[str]) -> Iterator[None]:
    """Let a pipeline run: killed runs are ended, this one says whose it is, mistakes read as one block.

    The terminal gets a line for each phase of `sequence`; see `steps.runtime.terminal`.
    """
    with step_errors.ErrorBlock(pipeline.name) as block, terminal(sequence, block.run):
        fail_stale_runs(pipeline.name)
        pipeline.configure(extra={**pipeline.configuration.extra, OWNER: process_name()})
        with without_integrations(), step_errors.without_tracebacks():
            yield


@contextmanager
def without_integrations() -> Iterator[None]:
    """Compile without importing every library that ZenML has an integration for.

    It does so to register their materializers, 3 s for torch and scikit-learn; every output here
    names its own, and the parts of a stack are loaded by their flavor.
    """
    activate = IntegrationRegistry.activate_integrations
    IntegrationRegistry.activate_integrations = lambda self: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        IntegrationRegistry.activate_integrations = activate  # type: ignore[method-assign]


finetune_pipeline = FinetunePipeline(name="finetune_pipeline", entrypoint=wire)
