"""The verdict on distillation, and which predictions the promotion review uses."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from steps.artifacts.models import Classifier, Student
from steps.artifacts.report import Report
from steps.core.system.errors import ArtifactError
from steps.core.tasks.labelling import ONE_LABEL, Labelling
from steps.runtime.promotion_review import distillation_verdict, predictions_on_test

MARGIN = 0.02


def student(teacher_ms: float, student_ms: float) -> Student:
    figures = {"teacher": {"latency_p50_ms": teacher_ms}, "cut": {"latency_p50_ms": student_ms}}
    return Student({}, {}, [], {}, {}, {"chosen": "cut", "candidates": []}, figures)


def report(low: float) -> Report:
    lost = {"accuracy": {"value": low + 0.01, "low": low, "high": low + 0.02}}
    return Report({"student_loss": lost}, pd.DataFrame(), "")


@pytest.mark.parametrize(
    ("teacher_ms", "student_ms", "low", "pays_here", "says"),
    [
        (
            4.0,
            2.0,
            -0.02,
            True,
            "2.0 times as fast as its teacher, and no more than 0.02 of accuracy is lost",
        ),
        (3.9, 2.0, -0.02, False, "1.9 times as fast as its teacher, less than 2 times"),
        (4.0, 2.0, -0.03, False, "its accuracy may be lower by 0.030, more than the margin of 0.02"),
        (3.0, 2.0, 0.01, True, "1.5 times as fast as its teacher, and more accurate by at least 0.010"),
        (3.0, 2.0, -0.03, False, "less than 2 times and its accuracy may be lower by 0.030"),
    ],
)
def test_it_is_said_in_words_whether_distillation_paid(
    teacher_ms: float, student_ms: float, low: float, pays_here: bool, says: str
) -> None:
    found = distillation_verdict(student(teacher_ms, student_ms), report(low), MARGIN)
    assert found is not None
    assert found["pays"] is pays_here
    assert says in found["reason"]
    assert found["times_faster"] == teacher_ms / student_ms


def test_nothing_is_said_of_a_student_that_was_not_timed() -> None:
    assert distillation_verdict(replace(student(4.0, 2.0), figures={}), report(0.0), MARGIN) is None


@dataclass(frozen=True)
class Shown:
    table: pd.DataFrame
    labels: tuple[str, ...] = ("a", "b")
    labelling: Labelling = ONE_LABEL

    def part(self, split: str) -> pd.DataFrame:
        return self.table


def test_the_answers_are_those_of_the_report_and_of_no_other_test_set() -> None:
    data: Any = Shown(pd.DataFrame({"sha256": ["x", "y"], "label": ["b", "a"]}))
    logits = np.array([[0.0, 2.0], [3.0, 0.0]])
    told = pd.DataFrame({"sha256": ["x", "y"], "student_logits": list(logits)})
    model = Classifier({}, {"temperature": 2.0}, [], {})
    found = predictions_on_test("student", model, data, Report({}, told, ""))
    assert np.array_equal(found.logits, logits)
    assert (found.labels.tolist(), found.predicted.tolist(), found.temperature) == ([1, 0], [1, 0], 2.0)
    with pytest.raises(ArtifactError, match="the report is of other test samples than the data set's"):
        predictions_on_test("student", model, data, Report({}, told.assign(sha256=["x", "z"]), ""))
