"""Running one phase: the part that is the same under every engine, and `python -m steps.<phase>`."""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from steps import tracking
from steps.core.config import Config
from steps.core.errors import HeadstartError
from steps.core.storage import Artifact
from steps.phase import Phase, all_configs, describe_config, load_phase

ARTIFACTS = Path("artifacts")

log = logging.getLogger("headstart")


def execute(phase: Phase, inputs: Mapping[str, Artifact], cfg: Config, run: str) -> Artifact:
    """Call the phase as a nested run of the pipeline run `run`, and record what came of it."""
    tags = {f"input.{name}": artifact.digest for name, artifact in inputs.items()}
    with tracking.phase_run(run, phase.name, describe_config(cfg), tags) as record:
        output = phase.function(**inputs, cfg=cfg)
        headline = output.headline()
        record.finish(phase.output, output.digest, headline, output.lineage())
        record.attach(output.files())
    numbers = "  ".join(f"{name} {value}" for name, value in headline.items())
    log.info("%s: %s", phase.name, numbers)
    return output


def main(function: Callable[..., Artifact]) -> None:
    """Run a phase on the artifacts in this folder; what a DVC stage does."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger().setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    phase = load_phase(function.__name__)
    try:
        cfg = all_configs()[phase.name]
        inputs = {name: kind.load(ARTIFACTS / name) for name, kind in phase.inputs.items()}
        output = execute(phase, inputs, cfg, tracking.dvc_run())
        output.save(ARTIFACTS / phase.output)
    except HeadstartError as error:
        if os.environ.get("HEADSTART_DEBUG"):
            raise
        raise SystemExit(f"\n{phase.name}: {type(error).__name__}\n{error}\n") from None
