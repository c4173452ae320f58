"""One data set for the bench: the images, the whole pipeline's run on them, and what it cached."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from infra.demo import write_digits
from steps.core.features.batches import Batches, open_batches
from steps.core.system.allocator import keep_freed_memory
from steps.runtime.phase import all_configs, load_phase
from steps.runtime.scratch import scratch
from tests.clone import Clone, copy_project

from .photographs import write_photographs
from .rows import OUT

PHOTOGRAPHS = 600
TRIALS, TRIAL_EPOCHS, UNFREEZE, KEEP = 20, 3, 2, 7  # the student is cut above the freeze boundary
PRUNE_AFTER = 1  # epochs; params.yaml waits longer, which is fairer to high rates and costs a third
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "photographs": {"side": 160, "flips": True},
    "digits": {"side": 96, "flips": False},
}
UP_TO_PREFIX = (
    "ingest_data",
    "validate_data",
    "adapt_backbone",
    "measure_stats",
    "cache_features",
    "choose_strategy",
    "warm_up_head",
    "cache_prefix",
)


@dataclass(frozen=True)
class Bench:
    """One data set and the pipeline's run on it, with the artifacts up to the cached prefix."""

    clone: Clone
    side: int
    flips: bool
    seconds: float
    """Of the whole run, from the command to its end."""
    report: dict[str, Any]
    configs: dict[str, Any]
    artifacts: dict[str, Any]

    @property
    def predictions(self) -> pd.DataFrame:
        """The run's answers on the test set."""
        (path,) = self.clone.folder.glob(".zenml/**/predictions.parquet")
        return pd.read_parquet(path)

    def batches(self, boundary: int, phase: str) -> Batches:
        """Return the cached batches as a phase reads them."""
        size = self.configs[phase].batch_size
        return open_batches(self.artifacts["prefix"], boundary, size, 0, scratch())


def prepare(name: str, work: Path) -> Bench:
    """Make the images, run the whole pipeline on them, and take up what it cached."""
    known = SETTINGS.get(name, {"side": 160, "flips": True})
    data = OUT / "data" / name if name in SETTINGS else Path(name).absolute()
    if name == "photographs":
        write_photographs(data, PHOTOGRAPHS)
    elif name == "digits":
        write_digits(data)
    clone = copy_project(work / "project")
    set_params(clone, data, known["side"], known["flips"])
    begun = time.perf_counter()
    report = clone.zenml()
    seconds = time.perf_counter() - begun
    os.environ["HEADSTART_SCRATCH"] = str(clone.folder / ".headstart")
    os.environ["HEADSTART_PARAMS"] = str(clone.folder / "params.yaml")
    keep_freed_memory()  # as under both engines
    configs = all_configs()
    artifacts: dict[str, Any] = {}
    for phase in map(load_phase, UP_TO_PREFIX):
        inputs = {name: artifacts[name] for name in phase.inputs}
        artifacts[phase.output] = phase.function(**inputs, cfg=configs[phase.name])
    return Bench(clone, known["side"], known["flips"], seconds, report, configs, artifacts)


def set_params(clone: Clone, data: Path, side: int, flips: bool) -> None:
    """Draw views from the recipe's ranges, and search as long as the bench says."""
    flip = 0.5 if flips else 0.0
    crops = {"crop_area": [0.7, 1.0], "crop_aspect": [0.75, 1.3333]}
    still = {"rotation": 0.0, "translation": 0.0}
    colours = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.1}
    augmentation = {**crops, **still, **colours, "horizontal_flip": flip, "vertical_flip": flip}
    clone.set_params(
        modality={"image": {"size": side, "augmentation": augmentation}},
        ingest_data={"path": str(data)},
        search_lr_ratio={
            "when": "always",
            "trials": TRIALS,
            "epochs": TRIAL_EPOCHS,
            "prune_after": PRUNE_AFTER,
        },
        choose_strategy={"strategy": "partial", "readout": "top"},  # what the recipe trains
        fine_tune={"unfreeze": UNFREEZE},
        distill={"candidates": [{"keep_stages": KEEP}], "latency_runs": 1},
    )
