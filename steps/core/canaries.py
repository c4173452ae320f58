"""Shortcut canaries: can the class be told without looking at the object?

A weak classifier sees the file alone (size, format, compression, metadata), another the picture's border
alone. If one beats chance, by a permutation test (Ojala and Garriga 2010), a network may learn it too.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold
from sklearn.tree import DecisionTreeClassifier

from steps.core.survey import Survey

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 4
FILE_FACTS = ("bytes", "width", "height")


def file_features(table: pd.DataFrame, seen: Survey) -> Floats:
    """Return what is known of each file (samples, features) without its pixels."""
    sizes = table[list(FILE_FACTS)].to_numpy(dtype=float)
    area = np.maximum(sizes[:, 1] * sizes[:, 2], 1)
    kinds = [table[name].astype(str).factorize(sort=True)[0] for name in ("format", "mode")]
    header = seen.facts[["quantisation", "exif"]].to_numpy(dtype=float)
    ratios = [sizes[:, 1] / np.maximum(sizes[:, 2], 1), sizes[:, 0] / area]
    return np.column_stack([sizes, header, *ratios, *kinds])


def canary(x: Floats, y: Ints, kind: str, permutations: int, seed: int) -> dict[str, Any]:
    """Return the cross-validated balanced accuracy, chance, and the p-value of the difference.

    Args:
        x: Features (samples, features).
        y: Class numbers (samples,); classes with fewer samples than folds are left out.
        kind: `file` takes a small tree, `border` a linear discriminant.
        permutations: Shuffles of the labels; the least p-value is 1 / (permutations + 1).
        seed: Of the folds and the shuffles.
    """
    counts = np.bincount(y)
    kept = counts[y] >= FOLDS
    x, y = x[kept], y[kept]
    classes = len(np.unique(y))
    if classes < 2:
        return {"accuracy": None, "chance": None, "p": None, "samples": len(y)}
    draw = np.random.default_rng(seed)
    found = score(x, y, kind, seed)
    shuffled = [score(x, draw.permutation(y), kind, seed) for _ in range(permutations)]
    p = (1 + sum(value >= found for value in shuffled)) / (permutations + 1)
    return {"accuracy": found, "chance": 1 / classes, "p": p, "samples": len(y)}


def score(x: Floats, y: Ints, kind: str, seed: int) -> float:
    """Return the balanced accuracy of answers for folds that were not trained on."""
    answers = np.empty_like(y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shuffled labels leave folds without a class, constants collinear
        for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, y):
            answers[test] = model(kind, seed).fit(x[train], y[train]).predict(x[test])
        return float(balanced_accuracy_score(y, answers))


def model(kind: str, seed: int) -> Any:
    """Return a classifier that trains in milliseconds."""
    if kind == "file":
        return DecisionTreeClassifier(
            max_depth=5, min_samples_leaf=3, class_weight="balanced", random_state=seed
        )
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1)
