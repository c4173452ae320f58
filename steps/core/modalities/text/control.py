"""What can be told from counted words alone: the control that a pretrained encoder must beat."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline

from steps.core.data.files import Source, map_in_threads
from steps.core.modalities.text.tokens import read_text

CONTROL = "TF-IDF of words and pairs of words, under a logistic regression"
INVERSE_PENALTIES = (1.0, 10.0, 100.0)
FOLDS = 3


def control_answers(
    source: Source, train: Sequence[str], labels: NDArray[np.int64], asked: Sequence[str], seed: int
) -> NDArray[np.int64] | None:
    """Fit on the texts of train, the penalty by cross-validation; return the classes of those that are asked.

    None where a class has too few texts to be divided into folds.

    Args:
        source: Of all paths.
        train: Paths.
        labels: Their classes (train,).
        asked: Paths.
        seed: Of the folds.
    """
    if len(labels) == 0 or np.bincount(labels)[np.unique(labels)].min() < FOLDS or len(np.unique(labels)) < 2:
        return None
    seen, new = (
        list(map_in_threads(lambda path: read_text(source.read(path)), paths, 64)) for paths in (train, asked)
    )
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[?!]")
    model = make_pipeline(words, LogisticRegression(max_iter=1000, tol=1e-3))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    search = GridSearchCV(model, {"logisticregression__C": list(INVERSE_PENALTIES)}, cv=folds, n_jobs=1)
    found: NDArray[np.int64] = search.fit(seen, labels).predict(new)
    return found
