"""Batch prediction: one step, which a schedule or a stack can run where the data are."""

import shutil
from pathlib import Path
from typing import Any

from zenml.models import PipelineRunResponse
from zenml.pipelines.pipeline_definition import Pipeline

from pipelines.finetune import chain, run_context
from pipelines.materializer import CONTENT
from steps import BATCH
from steps.runtime.phase import load_phase
from steps.runtime.terminal import active

PREDICTIONS = Path("predictions")


def wire() -> None:
    """Call the one step."""
    chain(map(load_phase, BATCH))


class BatchPipeline(Pipeline):
    """A ZenML pipeline that ends with its predictions in predictions/RUN, where it has run here."""

    def __call__(self, *args: Any, **kwargs: Any) -> PipelineRunResponse | None:
        """Run on the active stack; copy what it made to where a person looks for it."""
        with run_context(self, BATCH):
            run = super().__call__(*args, **kwargs)
            if run is not None and run.steps and run.steps[BATCH[0]].status.is_successful:
                (output,) = run.steps[BATCH[0]].outputs["batch"]
                deliver(Path(f"{output.uri}/{CONTENT}"), PREDICTIONS / run.name)
        return run


def deliver(made: Path, folder: Path) -> None:
    """Copy an artifact's files to a folder, and say where they are; one in a remote store stays there."""
    if not made.is_dir():
        return
    shutil.copytree(made, folder, dirs_exist_ok=True)
    said = f"predictions: {(folder / 'predictions.parquet').absolute()}"
    if (terminal := active()) is not None:
        terminal.result(said)
    else:
        print(said, flush=True)


batch_pipeline = BatchPipeline(name="batch_pipeline", entrypoint=wire)
