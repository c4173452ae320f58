"""The retraining: look first, and train only where there is a reason."""

from typing import Any

from zenml.models import PipelineRunResponse
from zenml.pipelines.pipeline_definition import Pipeline

from pipelines.finetune import chain, run_context
from pipelines.materializer import HEADLINE
from pipelines.summary import summarise
from steps import RETRAINING, WATCHING
from steps.runtime import tracking
from steps.runtime.phase import load_phase
from steps.runtime.terminal import active


def wire(train: bool = False) -> None:
    """Call the steps that look, or those of the whole retraining, which begins with the same."""
    chain(map(load_phase, RETRAINING if train else WATCHING))


class RetrainingPipeline(Pipeline):
    """Two runs of one pipeline: a cheap one that decides, and the training if it says so.

    A stack that runs it on its own schedule is given the whole: what has not changed is reused there.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> PipelineRunResponse | None:
        """Run on the active stack, and wait for the decision."""
        with run_context(self, RETRAINING):
            if self._run_args.get("schedule"):
                return super().__call__(*args, train=True, **kwargs)
            watched = super().__call__(*args, **kwargs)
            if watched is None or not decided_to_train(watched):
                return watched
            run = super().__call__(*args, train=True, **kwargs)
            if run is not None:
                summarise(run, RETRAINING)
            return run


def decided_to_train(run: PipelineRunResponse) -> bool:
    """Say what the look at the data came to, record it, and return whether to train."""
    (watch,) = run.steps["watch_data"].outputs["watch"]
    facts: dict[str, Any] = watch.run_metadata
    found = facts[HEADLINE]
    tracking.tag_run(run.name, {"verdict": found["verdict"], "why": found["why"]})
    said = f"{found['verdict']}: {found['why']}"
    if (shown := active()) is not None:
        shown.result(said)
    else:
        print(said, flush=True)
    return bool(found["verdict"] != "nothing to do")


retraining_pipeline = RetrainingPipeline(name="retraining_pipeline", entrypoint=wire)
