"""Running one phase: the part that is the same under every engine, and `python -m steps.<phase>`."""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from steps import PHASES, RETRAINING, SHARED
from steps.core.system.allocator import keep_freed_memory
from steps.core.system.config import Config
from steps.core.system.errors import ParamsError, ProcessError
from steps.core.system.locks import exclusive_lock
from steps.core.system.ranks import accelerate_started_one, rank_and_size
from steps.core.system.storage import Artifact
from steps.runtime import tracking
from steps.runtime.failures import ErrorBlock
from steps.runtime.journal import Facts, journal
from steps.runtime.lineage import dvc_run
from steps.runtime.params import DATA_FOLDER, PARAMS_FILE
from steps.runtime.phase import Phase, all_configs, describe_config, load_phase
from steps.runtime.scratch import scratch
from steps.runtime.terminal import active, phase_bar, terminal

ARTIFACTS = Path("artifacts")
PROCESSES = "HEADSTART_PROCESSES"
CONCURRENT_PHASES = ("search_lr_ratio",)

log = logging.getLogger("headstart")


def execute(phase: Phase, inputs: Mapping[str, Artifact], cfg: Config, run: str) -> Artifact:
    """Call the phase as a nested run of the pipeline run `run`, and record what came of it."""
    keep_freed_memory()
    tags = {f"input.{name}": artifact.digest for name, artifact in inputs.items()}
    begun = time.monotonic()
    with (
        phase_bar(phase.name, run),
        phase_lock(phase.name),
        tracking.phase_run(run, phase.name, describe_config(cfg), tags) as record,
    ):
        output = phase.function(**inputs, cfg=cfg)
        headline = output.headline()
        record.finish(phase.output, output.digest, headline, output.lineage())
        record.attach(output.files())
        record.summarise(output.run_summary())
    if shown := active():
        shown.show_phase(phase.name, output.in_words(headline), time.monotonic() - begun)
    log.info("%s: %s", phase.name, Facts({"output": phase.output, "digest": output.digest}, headline))
    return output


def phase_lock(name: str) -> AbstractContextManager[None]:
    """Wait until no other run with the same scratch folder is in the same phase.

    The second one then finds what the first has done. Workers of a search share its trials instead.
    """
    if name in CONCURRENT_PHASES:
        return nullcontext()
    return exclusive_lock(scratch() / "locks" / f"{name}.lock", name)


def refuse_overrides() -> None:
    """Raise ParamsError where DVC would record params.yaml and the phase would read something else."""
    names = [name for name in (PARAMS_FILE, DATA_FOLDER) if os.environ.get(name)]
    if names and "DVC_ROOT" in os.environ:
        raise ParamsError(
            f"DVC watches params.yaml alone: unset {' and '.join(names)}, and change params.yaml or use "
            "dvc exp run -S ingest_data.path=FOLDER"
        )


def relaunch_as_processes(name: str) -> None:
    """Become $HEADSTART_PROCESSES processes, where a phase can be shared and was not launched as several."""
    wanted = os.environ.get(PROCESSES, "1")
    if rank_and_size()[1] == 1 and name in SHARED and wanted != "1":
        # not accelerate's launcher: it starts a single process where there are no GPUs
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", wanted]
        os.execv(sys.executable, [sys.executable, *launch, "-m", f"steps.{name}"])


def refuse_processes(name: str) -> None:
    """Raise ProcessError where several processes were launched for a phase that is not shared, or one."""
    if accelerate_started_one():
        raise ProcessError(
            "accelerate launch was asked for several processes and, without GPUs, has started one: "
            f"use torchrun --nproc-per-node=N -m steps.{name}"
        )
    if (size := rank_and_size()[1]) > 1 and name not in SHARED:
        raise ProcessError(
            f"{name} is computed by one process, found {size}: start it by itself. "
            f"Several can share {', '.join(SHARED)}; the workers of a search are single processes with one "
            "HEADSTART_STUDY_STORAGE"
        )


def main(function: Callable[..., Artifact]) -> None:
    """Run a phase on the artifacts in this folder; what a DVC stage does.

    Of several processes, all compute; the first one records the phase and writes the artifact.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger().setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    phase = load_phase(function.__name__)
    rank, size = rank_and_size()
    run = dvc_run()
    with ErrorBlock(f"{phase.name}, process {rank}" if size > 1 else phase.name, run):
        relaunch_as_processes(phase.name)
        refuse_overrides()
        refuse_processes(phase.name)
        cfg = all_configs()[phase.name]
        # Of several processes none owns the terminal.
        with (
            terminal(RETRAINING if phase.name not in PHASES else PHASES, run) if size == 1 else nullcontext(),
            nullcontext() if rank else journal(run, phase.name),
        ):
            inputs = {name: kind.load(ARTIFACTS / name) for name, kind in phase.inputs.items()}
            if rank:
                keep_freed_memory()
                phase.function(**inputs, cfg=cfg)
                return
            output = execute(phase, inputs, cfg, run)
            output.save(ARTIFACTS / phase.output)
