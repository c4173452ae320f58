"""Running one phase: the part that is the same under every engine, and `python -m steps.<phase>`."""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from steps import tracking
from steps.config import DATA_FOLDER, PARAMS_FILE
from steps.core.config import Config
from steps.core.errors import ParamsError
from steps.core.lock import alone
from steps.core.storage import Artifact
from steps.failures import Readable
from steps.journal import Facts, journal
from steps.lineage import dvc_run
from steps.phase import Phase, all_configs, describe_config, load_phase
from steps.scratch import scratch

ARTIFACTS = Path("artifacts")
ALONGSIDE = ("search_lr_ratio",)

log = logging.getLogger("headstart")


def execute(phase: Phase, inputs: Mapping[str, Artifact], cfg: Config, run: str) -> Artifact:
    """Call the phase as a nested run of the pipeline run `run`, and record what came of it."""
    tags = {f"input.{name}": artifact.digest for name, artifact in inputs.items()}
    with turn(phase.name), tracking.phase_run(run, phase.name, describe_config(cfg), tags) as record:
        output = phase.function(**inputs, cfg=cfg)
        headline = output.headline()
        record.finish(phase.output, output.digest, headline, output.lineage())
        record.attach(output.files())
    log.info("%s: %s", phase.name, Facts({"output": phase.output, "digest": output.digest}, headline))
    return output


def turn(name: str) -> AbstractContextManager[None]:
    """Wait until no other run with the same scratch folder is in the same phase.

    The second one then finds what the first has done. Workers of a search share its trials instead.
    """
    if name in ALONGSIDE:
        return nullcontext()
    return alone(scratch() / "locks" / f"{name}.lock", name)


def refuse_overrides() -> None:
    """Raise ParamsError where DVC would record params.yaml and the phase would read something else."""
    names = [name for name in (PARAMS_FILE, DATA_FOLDER) if os.environ.get(name)]
    if names and "DVC_ROOT" in os.environ:
        raise ParamsError(
            f"DVC watches params.yaml alone: unset {' and '.join(names)}, and change params.yaml or use "
            "dvc exp run -S ingest_data.path=FOLDER"
        )


def main(function: Callable[..., Artifact]) -> None:
    """Run a phase on the artifacts in this folder; what a DVC stage does."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger().setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    phase = load_phase(function.__name__)
    run = dvc_run()
    with Readable(phase.name, run):
        refuse_overrides()
        cfg = all_configs()[phase.name]
        with journal(run, phase.name):
            inputs = {name: kind.load(ARTIFACTS / name) for name, kind in phase.inputs.items()}
            output = execute(phase, inputs, cfg, run)
            output.save(ARTIFACTS / phase.output)
