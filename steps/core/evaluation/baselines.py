"""What distillation adds: the student against controls that were trained without a teacher."""

from collections.abc import Mapping
from typing import Any

from steps.core.tasks.comparisons import accuracy_difference
from steps.core.tasks.intervals import share_of
from steps.core.tasks.predictions import Predictions


def control_rows(student: Predictions, controls: Mapping[str, Predictions]) -> dict[str, dict[str, Any]]:
    """Return each control's accuracy and what the student gains on it, paired, with 95 % intervals."""
    return {
        name: {
            "accuracy": share_of(predictions.correct, predictions.groups),
            "student_gain": accuracy_difference(student, predictions),
        }
        for name, predictions in controls.items()
    }
