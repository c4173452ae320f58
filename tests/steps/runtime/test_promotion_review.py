"""The verdict on distillation, and which predictions the promotion review uses."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from steps.artifacts.models import Classifier
from steps.artifacts.report import Report
from steps.core.export.parity import FP32, INT8, ExportedFile, ParityResult
from steps.core.system.errors import ArtifactError
from steps.core.tasks.labelling import ONE_LABEL, Labelling
from steps.runtime.promotion_review import distillation_verdict, predictions_on_test
from tests.core.toys import graph_of

CFG = {"student_margin": 0.02}


def parity_results(teacher: float, student: float) -> list[ParityResult]:
    clocks = {("finetuned", FP32): teacher, ("student", FP32): student, ("student", INT8): 0.001}
    return [
        ParityResult(ExportedFile(*names, b"", graph_of()), {}, {"latency_p50_ms": ms})
        for names, ms in clocks.items()
    ]


def report(low: float) -> Report:
    lost = {"accuracy": {"value": low + 0.01, "low": low, "high": low + 0.02}}
    return Report({"student_loss": lost}, pd.DataFrame(), "")


@pytest.mark.parametrize(
    ("teacher", "student", "low", "pays_here", "says"),
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
        (3.0, 2.0, -0.03, False, "less than 2 times and its accuracy may be lower by 0.030"),
    ],
)
def test_it_is_said_in_words_whether_distillation_paid(
    teacher: float, student: float, low: float, pays_here: bool, says: str
) -> None:
    found = distillation_verdict(parity_results(teacher, student), report(low), CFG)
    assert found["pays"] is pays_here
    assert says in found["reason"]
    assert found["times_faster"] == teacher / student


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
    models = {"student": Classifier({}, {"temperature": 2.0}, [], {})}
    found = predictions_on_test(models, data, Report({}, told, ""))["student"]
    assert np.array_equal(found.logits, logits)
    assert (found.labels.tolist(), found.predicted.tolist(), found.temperature) == ([1, 0], [1, 0], 2.0)
    with pytest.raises(ArtifactError, match="the report is of other test samples than the data set's"):
        predictions_on_test(models, data, Report({}, told.assign(sha256=["x", "z"]), ""))
