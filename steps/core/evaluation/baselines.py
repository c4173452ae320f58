"""What distillation adds: the student against controls that were trained without a teacher."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from steps.core.tasks.intervals import interval, resamples
from steps.core.tasks.predictions import Floats, Ints, Predictions

LEVEL = 0.95


def control_rows(
    student: Predictions, controls: Mapping[str, Predictions], draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Return each control's accuracy and what the student gains on it, paired, with 95 % intervals."""
    everything = np.arange(len(student.labels))
    samples = [*resamples(student.strata, draws, seed), everything]
    mine = accuracies(student, samples)
    found = {}
    for name, predictions in controls.items():
        its = accuracies(predictions, samples)
        gain = mine - its
        found[name] = {
            "accuracy": interval(its[:-1], float(its[-1]), LEVEL),
            "student_gain": interval(gain[:-1], float(gain[-1]), LEVEL),
        }
    return found


def accuracies(predictions: Predictions, samples: list[Ints]) -> Floats:
    """Return the accuracy on each sample of the rows."""
    return np.array([predictions.metrics["accuracy"](predictions, rows) for rows in samples])
