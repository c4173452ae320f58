"""The peak memory of one phase, in a process of its own, on many small generated images."""

from pathlib import Path

import numpy as np
from PIL import Image

from steps import PHASES
from tests.clone import copy_project

PEAK = """
import resource, runpy, sys
sys.argv = [sys.argv[1]]
runpy.run_module(f"steps.{sys.argv[0]}", run_name="__main__")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_megabytes(phase: str, count: int, work: Path) -> float:
    """Return what a phase takes at most on `count` images of 32 pixels a side, after the phases before it."""
    folder = work / f"small-{count}"
    if not folder.exists():
        write_noise(folder, count)
    clone = copy_project(work / f"memory-{phase}-{count}")
    clone.set_params(
        modality={"image": {"size": 32}},
        ingest_data={"path": str(folder)},
        choose_strategy={"strategy": "partial", "readout": "top"},
        cache_prefix={"views": 1},
        fine_tune={"unfreeze": 2},
    )
    for before in PHASES[: PHASES.index(phase)]:
        done = clone.run("python", "-m", f"steps.{before}")
        assert done.returncode == 0, done.stderr[-2000:]
    done = clone.run("python", "-c", PEAK, phase)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.split()[-1])


def write_noise(folder: Path, count: int) -> None:
    """Write pictures of noise, of two classes in turn."""
    draw = np.random.default_rng(0)
    for number in range(count):
        path = folder / str(number % 2) / f"{number:05d}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
