"""Labels that look wrong: out-of-fold probabilities of a probe, judged by confident learning.

Northcutt, Jiang and Chuang 2021, "Confident learning"; the judgement is cleanlab's.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import resample

from steps.core.tasks.labelling import ONE_LABEL, Labelling, join_labels, split_labels

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FOLDS = 5
BLOCK = 1024  # samples that are judged at once


def out_of_fold(z: NDArray[np.float16], rows: Ints, y: Ints, seed: int, most: int) -> Floats:
    """Return class probabilities (rows, classes) by probes that never saw the sample.

    Args:
        z: Embeddings (samples, features).
        rows: Which of them are asked for.
        y: Their class numbers (rows,), 0 to classes - 1.
        seed: Of the folds.
        most: Samples that a probe is trained on; of more, a stratified part is drawn.
    """
    found = np.zeros((len(rows), int(y.max()) + 1))
    for train, held in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(rows, y):
        if len(train) > most:
            train = resample(train, replace=False, n_samples=most, stratify=y[train], random_state=seed)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200, tol=1e-3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(z[rows[train]].astype(np.float32), y[train])
        for part in np.array_split(held, len(held) // BLOCK + 1):
            found[np.ix_(part, probe.classes_)] = probe.predict_proba(z[rows[part]].astype(np.float32))
    return found


COLUMNS = ("path", "label", "suggested", "self_confidence")


def label_suspects(
    table: pd.DataFrame, z: NDArray[np.float16], seed: int, most: int, labelling: Labelling = ONE_LABEL
) -> pd.DataFrame:
    """Return the samples whose label is doubted, the most doubtful first.

    Columns: path, label, suggested, self_confidence. Classes with fewer samples than folds are not
    judged. `most` is as in `out_of_fold`.
    """
    names = sorted(labelling.explode(table["label"]).unique())
    y = labelling.encode(table["label"], names)
    if y.ndim == 1:
        return class_suspects(table, z, seed, most)
    return set_suspects(table, z, y, names, seed, most)


def set_suspects(
    table: pd.DataFrame, z: NDArray[np.float16], y: Ints, names: list[str], seed: int, most: int
) -> pd.DataFrame:
    """Judge each label of y (samples, classes) by itself; `suggested` has the doubtful ones turned."""
    from cleanlab.filter import find_label_issues

    doubts: dict[int, tuple[float, set[str]]] = {}
    for name, column in zip(names, y.T, strict=True):
        if min(column.sum(), len(column) - column.sum()) < FOLDS:
            continue
        probabilities = out_of_fold(z, np.arange(len(column)), column, seed, most)
        issues: Any = find_label_issues(
            column, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1
        )
        for row in issues:
            sure, turned = doubts.get(int(row), (1.0, set()))
            doubts[int(row)] = (min(sure, float(probabilities[row, column[row]])), turned | {name})
    rows = sorted(doubts, key=lambda row: (doubts[row][0], row))
    cells = table["label"].iloc[rows]
    suggested = [
        join_labels(set(split_labels(cell)) ^ doubts[row][1]) for row, cell in zip(rows, cells, strict=True)
    ]
    confidence = [round(doubts[row][0], 4) for row in rows]
    facts = (table["path"].iloc[rows].tolist(), cells.tolist(), suggested, confidence)
    return pd.DataFrame(dict(zip(COLUMNS, facts, strict=True)))


def class_suspects(table: pd.DataFrame, z: NDArray[np.float16], seed: int, most: int) -> pd.DataFrame:
    """Judge samples of exactly one label each."""
    from cleanlab.filter import find_label_issues

    counts = table["label"].value_counts()
    rows = np.flatnonzero(table["label"].map(counts) >= FOLDS)
    labels = sorted(table["label"].iloc[rows].unique())
    if len(labels) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    y = table["label"].iloc[rows].map(labels.index).to_numpy(dtype=np.int64)
    probabilities = out_of_fold(z, rows, y, seed, most)
    issues: Any = find_label_issues(y, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    part = table.iloc[rows[issues]]
    suggested = [labels[k] for k in probabilities[issues].argmax(axis=1)]
    confidence = probabilities[issues, y[issues]].round(4)
    found = pd.DataFrame({"path": part["path"], "label": part["label"]})
    found = found.assign(suggested=suggested, self_confidence=confidence)
    return found.reset_index(drop=True)


def two_sample_auc(
    z: NDArray[np.float16], first: NDArray[np.bool_], second: NDArray[np.bool_], seed: int, most: int
) -> dict[str, float]:
    """Ask a classifier which of two groups a sample is from (Lopez-Paz and Oquab 2017, "C2ST").

    `most` is as in `out_of_fold`.

    Returns:
        auc: 0.5 where they cannot be told apart.
        low, high: Its 95 % interval, by the variance of the Mann-Whitney statistic (Hanley and McNeil 1982).
    """
    from sklearn.metrics import roc_auc_score

    rows = np.flatnonzero(first | second)
    y = second[rows].astype(np.int64)
    scores = out_of_fold(z, rows, y, seed, most)[:, 1]
    auc = float(roc_auc_score(y, scores))
    positive, negative = int(y.sum()), int(len(y) - y.sum())
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positive - 1) * (q1 - auc**2) + (negative - 1) * (q2 - auc**2)
    half = 1.96 * float(np.sqrt(max(variance, 0.0) / (positive * negative)))
    return {"auc": auc, "low": max(0.0, auc - half), "high": min(1.0, auc + half)}
