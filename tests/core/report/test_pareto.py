from typing import Any

import numpy as np
import pytest

from steps.core.evaluation.baselines import control_rows
from steps.core.report.pareto import pareto_rows
from steps.core.report.plots import pareto
from steps.core.tasks.comparisons import paired_differences
from steps.core.tasks.intervals import metric_intervals
from steps.core.tasks.metrics import SingleLabelPredictions
from tests.core.toys import split_logits

LABELS = np.repeat(np.arange(3), 20)


def outcome(right: int) -> SingleLabelPredictions:
    return SingleLabelPredictions(split_logits(LABELS, 3, np.arange(60) % 20 < right, 4.0), LABELS, 1.0)


def exactly(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def figures(p50: float, megabytes: float) -> dict[str, float]:
    return {"latency_p50_ms": p50, "latency_p99_ms": 2 * p50, "megabytes": megabytes}


FIGURES = {"teacher": figures(8, 13), "small": figures(2, 2), "middle": figures(4, 5)}
CHOICE = {
    "chosen": "middle",
    "candidates": [{"name": "small", "val_accuracy": 0.7}, {"name": "middle", "val_accuracy": 0.8}],
}


def rows(student: float, hard: float = 0.9, teacher: float = 0.95) -> dict[str, dict[str, Any]]:
    metrics = {
        "models": {"finetuned": {"accuracy": exactly(teacher)}, "student": {"accuracy": exactly(student)}},
        "controls": {
            "student_hard_labels": {"accuracy": exactly(hard)},
            "student_frozen": {"accuracy": exactly(0.8)},
        },
    }
    return {row["model"]: row for row in pareto_rows(metrics, CHOICE, FIGURES)}


def test_everyone_has_a_row_and_a_control_costs_what_the_student_costs() -> None:
    found = rows(0.94)
    assert list(found) == [
        "teacher", "student: middle", "student, hard labels only", "student's body as it was, a head only",
        "small",
    ]  # fmt: skip
    for name in list(found)[1:4]:
        assert (found[name]["latency_p50_ms"], found[name]["megabytes"], found[name]["as_is"]) == (4, 5, 0.8)
    assert (found["small"]["accuracy"], found["small"]["as_is"]) == (None, 0.7)
    assert found["teacher"]["as_is"] is None


@pytest.mark.parametrize(
    ("student", "hard", "front"),
    [
        (0.94, 0.90, {"teacher", "student: middle"}),
        (0.96, 0.90, {"student: middle"}),
        (0.95, 0.90, {"student: middle"}),
        (0.90, 0.92, {"teacher", "student, hard labels only"}),
        (0.90, 0.90, {"teacher", "student: middle", "student, hard labels only"}),
    ],
)
def test_on_the_front_is_who_is_not_beaten_at_no_more_cost(
    student: float, hard: float, front: set[str]
) -> None:
    assert {name for name, row in rows(student, hard).items() if row["front"]} == front


def test_the_picture_is_the_same_every_time_and_shows_every_row() -> None:
    found = list(rows(0.94).values())
    assert pareto(found) == pareto(found)
    assert pareto(found) != pareto(found[:-1])


def test_controls_have_the_interval_of_the_metrics_and_a_paired_gain() -> None:
    student, hard, untrained = outcome(18), outcome(16), outcome(10)
    found = control_rows(student, {"hard_labels": hard, "frozen": untrained})
    assert list(found) == ["hard_labels", "frozen"]
    for name, one in (("hard_labels", hard), ("frozen", untrained)):
        assert found[name]["accuracy"] == metric_intervals(one, 50, 3)["accuracy"]
        assert found[name]["student_gain"] == paired_differences(student, one, 50, 3)["accuracy"]
    assert found["frozen"]["student_gain"]["value"] == pytest.approx(0.4)
