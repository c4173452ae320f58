"""Every phase killed in the middle of its work, again and again: nothing is lost, and nothing changes.

A phase runs as `python -m steps.PHASE` runs it, in a process that has its libraries loaded already: so the
kills fall into the work and not into imports. test_chaos.py kills whole engines.
"""

import logging
import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from steps import PHASES
from steps.runtime.phase import load_phase
from tests.bench.kill_tests import LONG, digests, lost_in, project, shards, still_running
from tests.clone import Clone

FRESH = multiprocessing.get_context("forkserver")
PRELOADED = """torch timm torchvision mlflow optuna cleanlab sklearn.linear_model great_expectations onnx
onnxruntime steps.core.audit.audit steps.core.features.cache steps.core.strategy.search
steps.core.export.parity tests.test_kills"""
FRESH.set_forkserver_preload(PRELOADED.split())


def work(folder: str, name: str) -> None:
    """Run a phase on the artifacts in a folder, as its own process does."""
    import torch

    from steps.runtime.journal import journal
    from steps.runtime.params import PARAMS_FILE
    from steps.runtime.phase import all_configs
    from steps.runtime.run import ARTIFACTS, execute

    os.chdir(folder)
    os.environ.pop(PARAMS_FILE, None)
    os.environ.update(
        HEADSTART_SCRATCH=f"{folder}/.headstart", MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db"
    )
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    phase = load_phase(name)
    cfg = all_configs()[name]
    with journal("run", name):
        inputs = {noun: kind.load(ARTIFACTS / noun) for noun, kind in phase.inputs.items()}
        execute(phase, inputs, cfg, "run").save(ARTIFACTS / phase.output)


@dataclass(frozen=True)
class Attempt:
    """How a phase's process ended, and after how many seconds."""

    code: int | None
    seconds: float


def attempt(clone: Clone, name: str, after: float | None = None) -> Attempt:
    """Run a phase, and kill it `after` so many seconds if it has not ended by then."""
    child = FRESH.Process(target=work, args=(str(clone.folder), name))
    begun = time.monotonic()
    child.start()
    child.join(after)
    if child.is_alive() and after is not None:
        os.kill(child.pid or 0, signal.SIGKILL)
    child.join(600)
    return Attempt(child.exitcode, time.monotonic() - begun)


def left_over(clone: Clone) -> list[str]:
    """Return what lies among the artifacts and is none."""
    nouns = {load_phase(name).output for name in PHASES}
    return [path.name for path in (clone.folder / "artifacts").iterdir() if path.name not in nouns]


@pytest.mark.parametrize("often", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_kills_inside_the_phases_lose_nothing_and_change_nothing(tmp_path: Path, often: int) -> None:
    calm, wild = (project(tmp_path / name, "zenml") for name in ("calm", "wild"))
    killed: dict[str, list[int]] = {name: [] for name in PHASES}
    for name in PHASES:
        quiet = attempt(calm, name)
        assert quiet.code == 0, name
        dice = random.Random(f"kills/{name}")  # the seed
        for _ in range(often * (2 if name in LONG else 1)):
            before = shards(wild)
            ended = attempt(wild, name, dice.uniform(0.1, 0.9) * quiet.seconds)
            assert ended.code in (0, -signal.SIGKILL), name
            assert {k: shards(wild)[k] for k in before} == before, "a shard was made twice"
            if ended.code:
                killed[name].append(lost_in(wild, name))
        assert attempt(wild, name).code == 0, name
    print({name: len(lost) for name, lost in killed.items()})
    assert sum(map(len, killed.values())) >= 9 * often
    assert all(lost <= 1 for found in killed.values() for lost in found), killed
    assert digests(wild, "dvc") == digests(calm, "dvc")
    assert not left_over(wild)
    assert not still_running(wild)
