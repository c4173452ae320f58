"""What the stages of the pretrained backbone put out, as heads and probes read it."""

import warnings

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from steps.core.backbones.readout import Readout
from steps.core.features.batches import Cache

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


def read_vectors(cache: Cache, readout: Readout) -> Floats:
    """Return what a head with this readout reads of every row of a cache of features (rows, features)."""
    parts = []
    for stage in range(readout.first, readout.keep):
        parts.append(stored(cache, f"stage{stage}"))
        if readout.deviations and has(cache, f"deviation{stage}"):
            parts.append(stored(cache, f"deviation{stage}"))
    return np.hstack(parts)


def stored(cache: Cache, name: str) -> Floats:
    """Return what a cache of features holds under `name`, such as `stage3`, by row (rows, channels)."""
    index = cache.index_table
    found: Floats | None = None
    for shard, part in index.groupby("shard", sort=False):
        with safe_open(cache.shards[str(shard)], framework="np") as file:
            tensor = file.get_tensor(name)[:, 0]
        if found is None:
            found = np.zeros((len(index), tensor.shape[1]))
        found[part.index.to_numpy()] = tensor[part["row"].to_numpy()]
    assert found is not None
    return found


def has(cache: Cache, name: str) -> bool:
    """Say whether a cache holds anything under `name`."""
    with safe_open(next(iter(cache.shards.values())), framework="np") as file:
        return name in set(file.keys())
