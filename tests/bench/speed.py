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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.trial import FrozenTrial

from steps.artifacts.dataset import Dataset
from steps.artifacts.models import Classifier
from steps.core.backbones.weights import find_weights
from steps.core.data.files import Folder
from steps.core.features.extraction import Sample, in_batches, prefix
from steps.core.modalities.image.pixels import Preprocessing
from steps.core.strategy.search import DISCRIMINATIVE, Search
from steps.core.strategy.trials import Trials
from steps.core.training.loop import fit
from steps.core.training.objectives import Classify
from steps.core.training.parameter_groups import parameter_groups
from steps.runtime import tracking
from steps.runtime.phase import load_phase
from steps.runtime.scratch import scratch
from steps.warm_up_head import warm_up_head
from tests.core.toys import IMAGE, image_network

from . import recipe
from .memory import peak_megabytes
from .prepared import TRIAL_EPOCHS, TRIALS, UNFREEZE, Bench, prepare
from .rows import OUT, Row, measured, publish

HEAD_EPOCHS, TUNE_EPOCHS = 5, 20  # of the recipe


def run_recipe(bench: Bench, work: Path) -> recipe.RecipeResult:
    """Run the recipe on the pipeline's splits, as a program of its own."""
    dataset: Dataset = bench.artifacts["dataset"]
    for row in dataset.table.to_dict("records"):
        link = work / "splits" / row["split"] / str(row["label"]) / row["path"].replace("/", "~")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(dataset.root).absolute() / row["path"])
    name = bench.artifacts["backbone"].meta["name"]
    weights = find_weights(name, "packaged", scratch())
    words = (work / "splits", bench.side, name, bench.flips, weights, (HEAD_EPOCHS, TUNE_EPOCHS), UNFREEZE)
    # No child of multiprocessing's: it would hand its way of starting on to the loaders' workers.
    program = [sys.executable, "-m", "tests.bench.recipe", json.dumps(words, default=str)]
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True)
    return recipe.RecipeResult(**json.loads(done.stdout.splitlines()[-1]))


def warm_up_seconds(bench: Bench, repeats: int = 3) -> list[float]:
    """Return how long the head takes, its penalty's cross-validation included."""
    found = []
    for _ in range(repeats):
        begun = time.perf_counter()
        inputs = (bench.artifacts[name] for name in ("features", "backbone", "plan"))
        warm_up_head(*inputs, bench.configs["warm_up_head"])
        found.append(time.perf_counter() - begun)
    return found


def fine_tune_epochs(bench: Bench, epochs: int = 10) -> list[float]:
    """Return the seconds of each epoch of the last stages on cached h."""
    boundary = bench.artifacts["prefix"].meta["boundary"]
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


def search_seconds(bench: Bench, work: Path) -> tuple[float, float, int]:
    """Run the search proper, without its control and its finals.

    Return its seconds, those of them that went into tracking, and the epochs that were trained.
    """
    cfg = bench.configs["search_lr_ratio"]
    boundary = bench.artifacts["prefix"].meta["boundary"]
    head: Classifier = bench.artifacts["warm_head"]
    batches = bench.batches(boundary, "fine_tune")
    trials = Trials(head.network(), boundary, batches, cfg.recipe, cfg.epochs, work / "runs")
    storage = f"sqlite:///{work}/study.db"
    name, decay = f"bench/{DISCRIMINATIVE}", cfg.recipe.weight_decay
    tracked = []

    def track(study: str, trial: FrozenTrial) -> None:
        begun = time.perf_counter()
        tracking.log_trial(study, trial)
        tracked.append(time.perf_counter() - begun)

    search = Search(storage, name, cfg, 0, UNFREEZE, decay, track)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{work}/mlflow.db"
    with tracking.phase_run("bench", "search_lr_ratio", {"seed": 0}, {}):
        begun = time.perf_counter()
        rows = search.run(trials, cfg.trials)
        seconds = time.perf_counter() - begun
    return seconds, sum(tracked), sum(row["epochs"] for row in rows)


def cache_cpu(bench: Bench, work: Path, repeats: int = 2) -> tuple[list[float], list[float]]:
    """Return CPU seconds of the phase and of a bare loop over the same pixels, in turn."""
    phase = load_phase("cache_prefix")
    inputs = {name: bench.artifacts[name] for name in phase.inputs}
    own, bare = [], []
    for number in range(repeats):
        os.environ["HEADSTART_SCRATCH"] = str(work / f"scratch-{number}")
        find_weights(bench.artifacts["backbone"].meta["name"], "packaged", scratch())
        begun = time.process_time()
        phase.function(**inputs, cfg=bench.configs["cache_prefix"])
        own.append(time.process_time() - begun)
        begun = time.process_time()
        bare_pass(bench)
        bare.append(time.process_time() - begun)
    os.environ["HEADSTART_SCRATCH"] = str(bench.clone.folder / ".headstart")
    return own, bare


@torch.inference_mode()
def bare_pass(bench: Bench) -> None:
    """Decode every image, make the same views, run them forward; keep nothing."""
    cfg, name = bench.configs["cache_prefix"], bench.artifacts["backbone"].meta["name"]
    boundary = bench.artifacts["prefix"].meta["boundary"]
    dataset: Dataset = bench.artifacts["dataset"]
    preprocessing = Preprocessing.from_dict(bench.artifacts["stats"].preprocessing)
    weights = find_weights(name, "packaged", scratch())
    network = image_network(name, len(dataset.labels), preprocessing.side, str(weights))
    views = IMAGE.views(preprocessing, cfg.modality.image, cfg.seed)
    folder = Folder(dataset.root, scratch())
    for split, part in dataset.table.groupby("split", sort=False):
        count = cfg.views if split == "train" else 0
        samples = (Sample(p, s) for p, s in zip(part["path"], part["sha256"], strict=True))
        read = ((s, views.read(folder.read(s.path))) for s in samples)
        seen = (views.view(image, s.sha256, n) for s, image in read for n in range(1 + count))
        for batch in in_batches(seen, cfg.cache.micro_batch):
            prefix(
                network,
                boundary,
                batch,
                preprocessing,
                cfg.cache.micro_batch,
            )


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
        warm, tuned = warm_up_seconds(bench), fine_tune_epochs(bench)[1:]
        search, tracked, epochs = search_seconds(bench, work)
        own, bare = cache_cpu(bench, work)
        gain = accuracy_gain(bench, other.answers)
        took = {row["phase"]: row["seconds"] for row in bench.report["phases"]}
        rows = [
            measured(
                "warm_up",
                warm,
                HEAD_EPOCHS * statistics.median(other.heads) / statistics.median(warm),
                10,
                "s",
                f"recipe {statistics.median(other.heads):.2f} s an epoch, {HEAD_EPOCHS} of them",
            ),
            measured(
                "fine_tune_epoch",
                tuned,
                statistics.median(other.tunes) / statistics.median(tuned),
                5,
                "s",
                f"last {UNFREEZE} stages and head; recipe {statistics.median(other.tunes):.2f} s an epoch",
            ),
            search_row(search, tracked, epochs, other.tunes, tuned),
            pipeline_row(bench.seconds - took["promote"], took["distill"], other.seconds, gain),
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
            small, large = (peak_megabytes("cache_prefix", count, work) for count in (1000, 16000))
            note = f"1,000 images: {small:.0f} MB"
            rows.append(measured("memory_16k_vs_1k", [large], large / small, 1.2, "MB", note, least=False))
    suffix = "" if name == "photographs" else f"_{Path(name).name}"
    publish(f"{Path(name).name}, {os.cpu_count()} cores", rows, OUT / f"speed{suffix}.json")


def search_row(seconds: float, tracked: float, epochs: int, tunes: list[float], tuned: list[float]) -> Row:
    """Compare with the recipe's second phase in a loop, which is scaled from its epochs' median."""
    naive = TRIALS * TRIAL_EPOCHS * statistics.median(tunes)
    whole = naive / (TRIALS * TRIAL_EPOCHS * statistics.median(tuned))
    note = (
        f"{epochs} of {TRIALS * TRIAL_EPOCHS} epochs trained; naive loop {naive:.0f} s, scaled from the "
        f"median epoch; without pruning {whole:.1f} x; tracking {tracked / seconds:.1%}"
    )
    return measured("search_20_trials", [seconds], naive / seconds, 15, "s", note)


def pipeline_row(seconds: float, distill: float, recipe: float, gain: dict[str, float]) -> Row:
    """Compare ingest to evaluate, imports and engine included, with the recipe's two phases.

    The recipe has no student, so the row is without `distill`; the note says what it comes to with it.
    """
    note = (
        f"recipe {recipe:.0f} s; with distill {seconds / recipe:.3f}; accuracy {gain['own']:.3f} against "
        f"{gain['recipe']:.3f}, difference {gain['gain']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    )
    alone = seconds - distill
    row = measured("pipeline_vs_recipe", [alone], alone / recipe, 0.7, "s", note, least=False)
    return replace(row, holds=bool(row.holds and gain["high"] >= 0))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "photographs")
