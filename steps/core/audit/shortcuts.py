"""Shortcut tests: can the class be predicted without looking at the object?

A weak classifier sees something beside the content alone: the size of the file, say, or the border of an
image. If it beats chance, by a permutation test (Ojala and Garriga 2010), a network may learn it too.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 4
RIDGE = 0.01  # penalty, per training sample
BINS = 8  # of a number that a file is described by: any dependence shows, not only a straight one
BLOCK = 16  # shuffles that are scored at once
FILE_FACTS = ("bytes", "width", "height", "format", "mode", "quantisation", "exif", "shape", "density")


def shortcut_test(x: Floats, y: Ints, permutations: int, seed: int) -> dict[str, Any]:
    """Return the cross-validated balanced accuracy, chance, and the p-value of the difference.

    The classifier is ridge regression on the classes, each weighted by its size. The folds do not depend
    on the labels, so one solution serves every shuffle of them.

    Args:
        x: Features (samples, features).
        y: Class numbers (samples,); classes with fewer samples than folds are left out.
        permutations: Shuffles of the labels; the least p-value is 1 / (permutations + 1).
        seed: Of the folds and the shuffles.
    """
    kept = np.bincount(y)[y] >= FOLDS
    x, y = x[kept], np.unique(y[kept], return_inverse=True)[1]
    classes = len(np.unique(y))
    if classes < 2:
        return {"accuracy": None, "chance": None, "p": None, "samples": len(y)}
    draw = np.random.default_rng(seed)
    labels = np.stack([y, *(draw.permutation(y) for _ in range(permutations))])
    scores = shuffled_scores(folds_of(x, seed), labels, classes)
    p = float((scores >= scores[0] - 1e-12).mean())
    return {"accuracy": float(scores[0]), "chance": 1 / classes, "p": p, "samples": len(y)}


def label_set_shortcut_test(x: Floats, y: Ints, permutations: int, seed: int) -> dict[str, Any]:
    """Return the same of indicators y (samples, classes): the figures of the label that is told best.

    Every shuffle is of whole rows, so labels that go together stay together. A shuffle's figure is its
    labels' greatest, each in standard deviations of its own shuffles: one test of all labels (Westfall and
    Young 1993, "Resampling-based multiple testing", max-T).
    """
    judged = np.flatnonzero(np.minimum(y.sum(axis=0), len(y) - y.sum(axis=0)) >= FOLDS)
    if not len(judged):
        return {"accuracy": None, "chance": None, "p": None, "samples": len(y)}
    draw = np.random.default_rng(seed)
    orders = [np.arange(len(y)), *(draw.permutation(len(y)) for _ in range(permutations))]
    folds = folds_of(x, seed)
    scores = np.stack([shuffled_scores(folds, y[:, k][np.stack(orders)], 2) for k in judged])
    spread = np.maximum(scores.std(axis=1, keepdims=True), 1e-12)
    heights = (scores - scores.mean(axis=1, keepdims=True)) / spread  # (classes, shuffles)
    best = int(heights[:, 0].argmax())
    p = float((heights.max(axis=0) >= heights[best, 0] - 1e-12).mean())
    return {
        "accuracy": float(scores[best, 0]),
        "chance": 0.5,
        "p": p,
        "samples": len(y),
        "label": int(judged[best]),
    }


def folds_of(x: Floats, seed: int) -> list[tuple[Ints, Ints, Any, Floats]]:
    """Return per fold the training and the held-out rows, the solution of the first, the latter's x."""
    return [
        (train, test, ridge_solution(x[train]), x[test])
        for train, test in KFold(FOLDS, shuffle=True, random_state=seed).split(x)
    ]


def shuffled_scores(folds: list[tuple[Ints, Ints, Any, Floats]], labels: Ints, classes: int) -> Floats:
    """Return the balanced accuracy of each row of labels (shuffles, samples), some at once."""
    parts = [labels[first : first + BLOCK] for first in range(0, len(labels), BLOCK)]
    return np.concatenate([balanced_accuracies(folds, part, classes) for part in parts])


def ridge_solution(x: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the ridge solution (features, samples) for any targets, and the columns' mean and spread."""
    mean, spread = x.mean(axis=0), x.std(axis=0)
    spread[spread < 1e-9] = 1.0
    scaled = (x - mean) / spread
    gram = scaled.T @ scaled + RIDGE * len(x) * np.eye(x.shape[1])
    solution: Floats = np.linalg.solve(gram, scaled.T)
    return solution, mean, spread


def balanced_accuracies(folds: list[tuple[Ints, Ints, Any, Floats]], labels: Ints, classes: int) -> Floats:
    """Return the balanced accuracy of each row of labels (shuffles, samples)."""
    counts = np.bincount(labels[0], minlength=classes)
    targets = (labels[..., None] == np.arange(classes)) / counts  # (shuffles, samples, classes)
    targets -= 1 / labels.shape[1]
    answers = np.empty_like(labels)
    for train, test, (solution, mean, spread), seen in folds:
        scores = (seen - mean) / spread @ (solution @ targets[:, train])  # (shuffles, held out, classes)
        answers[:, test] = scores.argmax(axis=2)
    right = (answers == labels)[..., None] & (targets > 0)
    recall: Floats = (right.sum(axis=1) / counts).mean(axis=1)
    return recall
