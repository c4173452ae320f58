"""What choosing by measurement is worth: `python -m tests.bench.choice FOLDER...`; else on generated sets.

Every set's features are computed once and split anew for every seed. What the head reads is chosen on train
and validation; heads on every readout that was compared are then fitted on train and asked about test. Regret
is the best of them there minus the chosen one, so part of it is the luck of the best; the gain is the chosen
one's over the backbone's own head, the mean of the last stage.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.model_selection import train_test_split

from infra.demo import write_digits
from steps.artifacts.features import Features
from steps.core.backbones.readout import Readout
from steps.core.features.linear_head import fit_head
from steps.core.features.vectors import read_vectors
from steps.core.modalities.networks import build_network
from steps.core.modalities.registry import modality_of, preprocessing_of
from steps.core.strategy.candidates import costs_by_stage
from steps.core.strategy.plan import compare_readouts
from steps.runtime.phase import all_configs, load_phase
from tests.clone import copy_project

from .photographs import write_photographs
from .rows import OUT

SEEDS = 5
PHASES = ("ingest_data", "validate_data", "adapt_backbone", "measure_stats", "cache_features")


@dataclass(frozen=True)
class Outcome:
    """One split of one set."""

    set: str
    seed: int
    samples: int
    chosen: str
    predicted: float
    low: float
    high: float
    accuracy: float
    """Of the chosen readout on test."""
    best: float
    best_single: float
    top: float
    tested: int

    @property
    def held(self) -> bool:
        """Whether forecast and test agree: their difference is within both's 95 % intervals together."""
        sampling = 1.96 * np.sqrt(self.predicted * (1 - self.predicted) / self.tested)
        error = np.hypot((self.high - self.low) / 2, sampling)
        return bool(abs(self.accuracy - self.predicted) <= max(error, 1 / self.tested))


def features_of(data: Path, work: Path) -> Features:
    """Return what every stage makes of a folder of images, by the phases themselves."""
    clone = copy_project(work / data.name)
    clone.set_params(ingest_data={"path": str(data)}, validate_data={"permutations": 19, "repair": True})
    os.environ["HEADSTART_SCRATCH"] = str(clone.folder / ".headstart")
    os.environ["HEADSTART_PARAMS"] = str(clone.folder / "params.yaml")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{clone.folder}/mlflow.db"
    configs, artifacts = all_configs(), {}
    for phase in map(load_phase, PHASES):
        inputs = {name: artifacts[name] for name in phase.inputs}
        artifacts[phase.output] = phase.function(**inputs, cfg=configs[phase.name])
    found: Features = artifacts["features"]
    return found


def split_anew(features: Features, seed: int) -> Features:
    """Return the same features with other splits: 55, 15 and 30 percent of every class."""
    index = features.index_table
    rows, labels = np.arange(len(index)), index["label"].to_numpy()
    known, test = train_test_split(rows, test_size=0.30, stratify=labels, random_state=seed)
    _, val = train_test_split(known, test_size=0.15 / 0.70, stratify=labels[known], random_state=seed)
    split = pd.Series("train", index=index.index)
    split.iloc[val], split.iloc[test] = "val", "test"
    return replace(features, index_table=index.assign(split=split))


def outcomes(data: Path, work: Path) -> Iterator[Outcome]:
    """Choose and measure for every seed."""
    features = features_of(data, work)
    meta, cfg = features.meta, all_configs()["choose_strategy"]
    preprocessing = preprocessing_of(meta)
    network = build_network(modality_of(meta), meta["backbone"], preprocessing, len(meta["labels"]))
    costs = costs_by_stage(network, preprocessing)
    for seed in range(SEEDS):
        drawn = split_anew(features, seed)
        limits = (cfg.samples, cfg.same_cost, cfg.bootstrap, seed)
        found = compare_readouts(drawn, costs, cfg.unfreeze + 1, cfg.head, limits)
        readouts = [Readout(row["first"], row["keep"], row["deviations"]) for row in found.rows]
        tested = {one: accuracy(drawn, one, cfg.head, seed) for one in [*readouts, Readout.top(len(costs))]}
        single = max(value for one, value in tested.items() if one.keep == one.first + 1)
        yield Outcome(
            data.name, seed, len(drawn.index_table), found.chosen.named(),
            *(found.predicted[key] for key in ("value", "low", "high")),
            tested[found.chosen], max(tested.values()), single, tested[Readout.top(len(costs))],
            int((drawn.index_table["split"] == "test").sum()),
        )  # fmt: skip


def accuracy(features: Features, readout: Readout, head: Any, seed: int) -> float:
    """Return the test accuracy of a head that was fitted on train."""
    x, index = read_vectors(features, readout), features.index_table
    y, split = index["label"].to_numpy(dtype=np.int64), index["split"]
    train, test = (np.flatnonzero(split == name) for name in ("train", "test"))
    fitted = fit_head(x[train], y[train], len(features.meta["labels"]), list(train), head, seed)
    return float((fitted.logits(x[test]).argmax(axis=1) == y[test]).mean())


def main(folders: list[str]) -> None:
    """Print a row for every set, and the means over all."""
    generated = {"photographs": lambda path: write_photographs(path, 600), "digits": write_digits}
    places = [Path(folder).absolute() for folder in folders]
    for name, write in generated.items() if not folders else ():
        write(OUT / "data" / name)
        places.append(OUT / "data" / name)
    means = ("forecast", "test", "best", "best single", "top", "regret", "gain")
    table = Table("set", "n", "chosen, by seed", *means)
    rows: list[Outcome] = []
    for place in places:
        with tempfile.TemporaryDirectory(prefix="headstart-choice-") as work:
            found = list(outcomes(place, Path(work)))
        rows += found
        figures = {
            name: float(np.mean([getattr(one, name) for one in found]))
            for name in ("predicted", "accuracy", "best", "best_single", "top")
        }
        names = "; ".join(sorted({one.chosen for one in found}))
        regret = figures["best"] - figures["accuracy"]
        gain = figures["accuracy"] - figures["top"]
        shown = [f"{value:.3f}" for value in (*figures.values(), regret, gain)]
        table.add_row(place.name, str(found[0].samples), names, *shown)
    Console(width=170).print(table)
    regrets = np.array([one.best - one.accuracy for one in rows])
    behind = np.array([one.accuracy - one.best_single for one in rows])
    print(
        f"{len(places)} sets, {SEEDS} seeds: mean regret {regrets.mean():.4f}; chosen minus the best single "
        f"stage in hindsight {behind.mean():+.4f}; forecasts that held "
        f"{np.mean([one.held for one in rows]):.2f}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
