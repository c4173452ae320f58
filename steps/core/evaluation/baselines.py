"""What the teacher's word was worth: the student against networks like it that went without."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from steps.core.tasks.intervals import interval, resamples
from steps.core.tasks.predictions import Answers, Floats, Ints

LEVEL = 0.95


def control_rows(
    student: Answers, controls: Mapping[str, Answers], draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Return each control's accuracy and what the student gains on it, paired, with 95 % intervals."""
    everything = np.arange(len(student.labels))
    samples = [*resamples(student.strata, draws, seed), everything]
    mine = curve(student, samples)
    found = {}
    for name, outcome in controls.items():
        its = curve(outcome, samples)
        gain = mine - its
        found[name] = {
            "accuracy": interval(its[:-1], float(its[-1]), LEVEL),
            "student_gain": interval(gain[:-1], float(gain[-1]), LEVEL),
        }
    return found


def curve(outcome: Answers, samples: list[Ints]) -> Floats:
    """Return the accuracy on each sample of the rows."""
    return np.array([outcome.metrics["accuracy"](outcome, rows) for rows in samples])
