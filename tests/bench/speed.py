"""`python -m tests.bench.speed [photographs | digits | FOLDER]`: the cache against recomputing.

Everything is measured in one run on the same images: the real pipeline in a copy of the project, the
recipe of `tests.bench.recipe` on the very splits the pipeline made, and single parts of both.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from infra.demo import write_digits
from steps.artifacts import Dataset
from steps.core.batches import Batches, open_batches
from steps.core.extraction import Sample, Views, batched, prefix
from steps.core.files import Folder
from steps.core.groups import parameter_groups
from steps.core.heap import keep_freed
from steps.core.loop import fit
from steps.core.network import Network
from steps.core.search import DISCRIMINATIVE, Search
from steps.core.tasks import Classify
from steps.core.trials import Trials
from steps.core.weights import find_weights
from steps.models import Classifier
from steps.phase import all_configs, load_phase
from steps.scratch import scratch

from ..clone import Clone, copy_project
from . import recipe
from .memory import peak_megabytes
from .photographs import write_photographs
from .rows import Row, measured, publish

OUT = Path("artifacts/bench").absolute()
PHOTOGRAPHS = 600
HEAD_EPOCHS, TUNE_EPOCHS = 5, 20  # of the recipe
TRIALS, TRIAL_EPOCHS, UNFREEZE, KEEP = 20, 3, 2, 7  # the student is cut above the freeze boundary
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "photographs": {"side": 160, "flips": True},
    "digits": {"side": 96, "flips": False},
}
UP_TO_WARM_HEAD = ("ingest_data", "validate_data", "measure_stats", "cache_features", "warm_up_head")


@dataclass(frozen=True)
class Bench:
    """One data set and the pipeline's run on it, with the artifacts up to the warm head."""

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
        return open_batches(self.artifacts["features"], boundary, size, 0, scratch())


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
    keep_freed()  # as under both engines
    configs = all_configs()
    artifacts: dict[str, Any] = {}
    for phase in map(load_phase, UP_TO_WARM_HEAD):
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
        backbone={"image_size": side},
        ingest_data={"path": str(data)},
        cache_features={"augmentation": augmentation},
        search_lr_ratio={"trials": TRIALS, "epochs": TRIAL_EPOCHS},
        fine_tune={"unfreeze": UNFREEZE},
        distill={"candidates": [{"keep_stages": KEEP}], "timings": 1},
    )


def run_recipe(bench: Bench, work: Path) -> recipe.Outcome:
    """Run the recipe on the pipeline's splits, as a program of its own."""
    dataset: Dataset = bench.artifacts["dataset"]
    for row in dataset.table.to_dict("records"):
        link = work / "splits" / row["split"] / str(row["label"]) / row["path"].replace("/", "~")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(dataset.root).absolute() / row["path"])
    name = bench.configs["cache_features"].backbone.name
    weights = find_weights(name, "packaged", scratch())
    words = (work / "splits", bench.side, name, bench.flips, weights, (HEAD_EPOCHS, TUNE_EPOCHS), UNFREEZE)
    # No child of multiprocessing's: it would hand its way of starting on to the loaders' workers.
    program = [sys.executable, "-m", "tests.bench.recipe", json.dumps(words, default=str)]
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True)
    return recipe.Outcome(**json.loads(done.stdout.splitlines()[-1]))


def warm_up_epochs(bench: Bench, epochs: int = 40) -> list[float]:
    """Return the seconds of each epoch of the head on cached z."""
    features = bench.artifacts["features"]
    cfg = bench.configs["warm_up_head"]
    top = features.meta["stages"]
    return fit_epochs(bench, top, "warm_up_head", cfg, epochs, cfg.head_lr)


def fine_tune_epochs(bench: Bench, epochs: int = 10) -> list[float]:
    """Return the seconds of each epoch of the last stages on cached h."""
    boundary = bench.artifacts["features"].meta["boundary"]
    return fit_epochs(bench, boundary, "fine_tune", bench.configs["fine_tune"], epochs, 1e-3)


def fit_epochs(bench: Bench, boundary: int, phase: str, cfg: Any, epochs: int, lr: float) -> list[float]:
    """Train with the pipeline's own loop; validation is part of an epoch."""
    network = bench.artifacts["warm_head"].network()
    network.freeze(boundary)
    groups = parameter_groups(network, boundary, lr, 0.5, cfg.weight_decay)
    recipe = cfg.model_copy(update={"epochs": epochs})
    clock = [time.perf_counter()]
    for _ in fit(network, Classify(recipe), bench.batches(boundary, phase), recipe, groups):
        clock.append(time.perf_counter())
    return list(np.diff(clock))


def search_seconds(bench: Bench, work: Path) -> tuple[float, int]:
    """Run the search proper, without its control and its finals; return seconds and epochs trained."""
    cfg = bench.configs["search_lr_ratio"]
    boundary = bench.artifacts["features"].meta["boundary"]
    head: Classifier = bench.artifacts["warm_head"]
    batches = bench.batches(boundary, "fine_tune")
    trials = Trials(head.network(), boundary, batches, cfg.recipe, cfg.epochs, work / "runs")
    storage = f"sqlite:///{work}/study.db"
    name, decay = f"bench/{DISCRIMINATIVE}", cfg.recipe.weight_decay
    search = Search(storage, name, cfg, 0, UNFREEZE, decay, lambda study, trial: None)
    begun = time.perf_counter()
    rows = search.run(trials, cfg.trials)
    return time.perf_counter() - begun, sum(row["epochs"] for row in rows)


def cache_cpu(bench: Bench, work: Path, repeats: int = 2) -> tuple[list[float], list[float]]:
    """Return CPU seconds of the phase and of a bare loop over the same pixels, in turn."""
    phase = load_phase("cache_features")
    inputs = {name: bench.artifacts[name] for name in phase.inputs}
    own, bare = [], []
    for number in range(repeats):
        os.environ["HEADSTART_SCRATCH"] = str(work / f"scratch-{number}")
        find_weights(bench.configs["cache_features"].backbone.name, "packaged", scratch())
        begun = time.process_time()
        phase.function(**inputs, cfg=bench.configs["cache_features"])
        own.append(time.process_time() - begun)
        begun = time.process_time()
        bare_pass(bench)
        bare.append(time.process_time() - begun)
    os.environ["HEADSTART_SCRATCH"] = str(bench.clone.folder / ".headstart")
    return own, bare


@torch.inference_mode()
def bare_pass(bench: Bench) -> None:
    """Decode every image, make the same views, run them forward; keep nothing."""
    cfg = bench.configs["cache_features"]
    dataset: Dataset = bench.artifacts["dataset"]
    look = bench.artifacts["stats"].look()
    weights = find_weights(cfg.backbone.name, "packaged", scratch())
    network = Network.build(cfg.backbone.name, len(dataset.labels), look.side, str(weights))
    views = Views(look, cfg.augmentation, cfg.seed, cfg.oversampling)
    folder = Folder(dataset.root, scratch())
    for split, part in dataset.table.groupby("split", sort=False):
        count = cfg.views if split == "train" else 0
        samples = (Sample(p, s) for p, s in zip(part["path"], part["sha256"], strict=True))
        seen = (view for s in samples for view in views.of(views.read(folder.read(s.path)), s, count))
        for batch in batched(seen, cfg.micro_batch):
            network.embed(prefix(network, 0, torch.stack(batch), look, cfg.micro_batch))


def accuracy_gain(bench: Bench, answers: dict[str, bool], draws: int = 2000) -> dict[str, float]:
    """Return the paired difference of test accuracy, pipeline minus recipe, with a 95 % interval."""
    table = bench.predictions
    own = (table["finetuned"] == table["label"]).to_numpy(dtype=float)
    other = np.array([answers[path.replace("/", "~")] for path in table["path"]], dtype=float)
    gap = own - other
    rows = np.random.default_rng(0).integers(0, len(gap), (draws, len(gap)))
    low, high = np.quantile(gap[rows].mean(axis=1), [0.025, 0.975])
    return {"own": own.mean(), "recipe": other.mean(), "gain": gap.mean(), "low": low, "high": high}


def main(name: str) -> None:
    """Measure, print and write all rows for one data set."""
    with tempfile.TemporaryDirectory(prefix="headstart-bench-") as temporary:
        work = Path(temporary)
        bench = prepare(name, work)
        seconds = ", ".join(f"{row['phase']} {row['seconds']:.1f}" for row in bench.report["phases"])
        print(f"seconds: {seconds}", flush=True)
        other = run_recipe(bench, work)
        warm, tuned = warm_up_epochs(bench)[1:], fine_tune_epochs(bench)[1:]
        search, epochs = search_seconds(bench, work)
        own, bare = cache_cpu(bench, work)
        gain = accuracy_gain(bench, other.answers)
        promote = next(row["seconds"] for row in bench.report["phases"] if row["phase"] == "promote")
        rows = [
            measured(
                "warm_up_epoch",
                warm,
                statistics.median(other.heads) / statistics.median(warm),
                500,
                "s",
                f"recipe {statistics.median(other.heads):.2f} s an epoch",
            ),
            measured(
                "fine_tune_epoch",
                tuned,
                statistics.median(other.tunes) / statistics.median(tuned),
                5,
                "s",
                f"last {UNFREEZE} stages and head; recipe {statistics.median(other.tunes):.2f} s an epoch",
            ),
            search_row(search, epochs, other.tunes, tuned),
            pipeline_row(bench.seconds - promote, other.seconds, gain),
            measured(
                "cache_vs_bare",
                own,
                statistics.median(own) / statistics.median(bare),
                1.15,
                "CPU s",
                f"bare decode, views and forward {statistics.median(bare):.1f} CPU s",
                least=False,
            ),
        ]
        if name == "photographs":
            small, large = (peak_megabytes("cache_features", count, work) for count in (1000, 16000))
            note = f"1,000 images: {small:.0f} MB"
            rows.append(measured("memory_16k_vs_1k", [large], large / small, 1.2, "MB", note, least=False))
    suffix = "" if name == "photographs" else f"_{Path(name).name}"
    publish(f"{Path(name).name}, {os.cpu_count()} cores", rows, OUT / f"speed{suffix}.json")


def search_row(seconds: float, epochs: int, tunes: list[float], tuned: list[float]) -> Row:
    """Compare with the recipe's second phase in a loop, which is scaled from its epochs' median."""
    naive = TRIALS * TRIAL_EPOCHS * statistics.median(tunes)
    whole = naive / (TRIALS * TRIAL_EPOCHS * statistics.median(tuned))
    note = (
        f"{epochs} of {TRIALS * TRIAL_EPOCHS} epochs trained; naive loop {naive:.0f} s, scaled from the "
        f"median epoch; without pruning {whole:.1f} x"
    )
    return measured("search_20_trials", [seconds], naive / seconds, 15, "s", note)


def pipeline_row(seconds: float, recipe: float, gain: dict[str, float]) -> Row:
    """Compare ingest to evaluate, imports and engine included, with the recipe's two phases."""
    note = (
        f"recipe {recipe:.0f} s; test accuracy {gain['own']:.3f} against {gain['recipe']:.3f}, "
        f"difference {gain['gain']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    )
    row = measured("pipeline_vs_recipe", [seconds], seconds / recipe, 0.7, "s", note, least=False)
    return replace(row, holds=bool(row.holds and gain["high"] >= 0))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "photographs")
