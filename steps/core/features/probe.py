"""How far the pretrained features transfer: a linear probe on the pooled output of every stage.

Alain and Bengio 2016, "Understanding intermediate layers using linear classifier probes". The pooled
vectors fall out of the pass that fills the cache.
"""

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from steps.core.features.batches import Cache
from steps.core.tasks import targets
from steps.core.tasks.intervals import interval

Floats = NDArray[np.float64]
RIDGE = 0.1  # penalty of the probe for label sets, per sample


def linear_probe(x: Floats, y: NDArray[np.int64], seen: Floats) -> NDArray[np.int64]:
    """Fit logistic regression on x (n, features) and y (n,); return the classes of `seen`.

    For indicators y (n, classes) it is ridge regression, whose one solution serves all labels.
    """
    if y.ndim > 1:
        ridge = make_pipeline(StandardScaler(), RidgeClassifier(RIDGE * len(x), solver="cholesky"))
        return np.asarray(ridge.fit(x, y).predict(seen)).reshape(len(seen), -1)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, tol=1e-3))
    with warnings.catch_warnings():
        # On separable data the weights grow for ever; the classes have settled long before.
        warnings.simplefilter("ignore", ConvergenceWarning)
        answers: NDArray[np.int64] = probe.fit(x, y).predict(seen)
    return answers


def correct_fraction(answers: NDArray[np.int64], y: NDArray[np.int64]) -> Floats:
    """Return what share of each sample's answers is right (n,)."""
    share: Floats = (answers == y).reshape(len(y), -1).mean(axis=1)
    return share


def probe_stages(cache: Cache, samples: int, draws: int, seed: int) -> dict[str, Any]:
    """Return each stage's validation accuracy with a 95 % interval, and how many stages to unfreeze.

    The suggestion keeps the earliest stage that the best one does not beat beyond the paired
    interval: what lies above adds nothing for this data as it is, so it is free to change.
    """
    index, stages = cache.index_table, int(cache.meta["stages"])
    generator = np.random.default_rng(seed)
    train = np.flatnonzero(index["split"] == "train")
    train = np.sort(generator.permutation(train)[:samples])
    val = np.flatnonzero(index["split"] == "val")
    labels = targets.stack(index["label"])
    answers = [
        linear_probe(
            pooled(cache, f"stage{stage}", train), labels[train], pooled(cache, f"stage{stage}", val)
        )
        for stage in range(stages)
    ]
    right = np.stack([correct_fraction(found, labels[val]) for found in answers])
    rows = generator.integers(0, len(val), (draws, len(val)))
    drawn = np.stack([curve[rows].mean(axis=1) for curve in right])  # (stages, draws)
    best = int(right.mean(axis=1).argmax())
    rivals = [stage for stage in range(stages) if np.quantile(drawn[best] - drawn[stage], 0.025) <= 0]
    return {
        "stages": [
            {"stage": stage, "accuracy": interval(drawn[stage], float(right[stage].mean()), 0.95)}
            for stage in range(stages)
        ],
        "best_stage": best,
        "suggested_unfreeze": stages - 1 - min(rivals),
    }


def pooled(cache: Cache, name: str, rows: NDArray[np.int64]) -> Floats:
    """Return what the cache holds under `name`, such as `stage3`, of some rows (rows, channels)."""
    places = cache.index_table.iloc[rows]
    found: dict[int, torch.Tensor] = {}
    for shard, part in places.groupby("shard", sort=False):
        with safe_open(cache.shards[str(shard)], framework="pt") as file:
            tensor = file.get_tensor(name)
        found.update(zip(part.index, tensor[part["row"].tolist()], strict=True))
    x: Floats = torch.stack([found[row] for row in places.index]).double().numpy()
    return x
