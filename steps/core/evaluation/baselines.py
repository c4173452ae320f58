"""What a model is held against: one without pretraining, and a student's controls without a teacher."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from steps.core.data.files import Source
from steps.core.modalities.contract import Modality
from steps.core.tasks.comparisons import accuracy_difference
from steps.core.tasks.intervals import share_of
from steps.core.tasks.labelling import ONE_LABEL
from steps.core.tasks.predictions import Predictions


def modality_control(
    kind: Modality,
    source: Source,
    train: pd.DataFrame,
    asked: pd.DataFrame,
    labels: Sequence[str],
    candidate: Predictions,
    seed: int,
) -> dict[str, Any] | None:
    """Return what the modality's control comes to, and what the candidate gains on it, with 95 % intervals.

    None of label sets, and where the modality has no control.

    Args:
        kind: The modality.
        source: Of both tables' paths.
        train: Rows that the control is fitted on.
        asked: Rows that both are asked about.
        labels: Names of the classes.
        candidate: Answers to those.
        seed: Of the control's folds.
    """
    if kind.control is None or candidate.labels.ndim > 1:
        return None
    classes = ONE_LABEL.encode(train["label"], list(labels))
    answers = kind.control_answers(source, list(train["path"]), classes, list(asked["path"]), seed)
    if answers is None:
        return None
    control = candidate.with_logits(np.eye(len(labels))[answers])
    return {
        "name": kind.control,
        "accuracy": share_of(control.correct, control.groups),
        "gain": accuracy_difference(candidate, control),
    }


def control_rows(student: Predictions, controls: Mapping[str, Predictions]) -> dict[str, dict[str, Any]]:
    """Return each control's accuracy and what the student gains on it, paired, with 95 % intervals."""
    return {
        name: {
            "accuracy": share_of(predictions.correct, predictions.groups),
            "student_gain": accuracy_difference(student, predictions),
        }
        for name, predictions in controls.items()
    }
