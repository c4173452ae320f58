from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from steps.core.evaluation.evaluation import EvaluationResult, class_rows, evaluate_models, reliability_rows
from steps.core.evaluation.evaluation import test_digest as digest_of
from steps.core.tasks.comparisons import paired_differences
from steps.core.tasks.intervals import metric_intervals
from steps.core.tasks.label_sets import SET_METRICS
from steps.core.tasks.labelling import LABEL_SETS
from steps.core.tasks.metrics import METRICS, SingleLabelPredictions
from tests.core.toys import LABELS, BrightestChannelModel, Pictures, split_logits

MODELS = {
    "warm_head": BrightestChannelModel(known=("blue", "green")),
    "finetuned": BrightestChannelModel(),
    "student": BrightestChannelModel(margin=0.5, temperature=2.0),
}


@pytest.fixture(scope="module")
def verdict(pictures: Pictures) -> EvaluationResult:
    return evaluate_models(MODELS, rows_of(pictures), LABELS, pictures.folder(), 50, 3)


def rows_of(pictures: Pictures) -> pd.DataFrame:
    return pictures.table[pictures.table["split"] == "test"]


def test_every_model_is_measured_on_the_same_samples(verdict: EvaluationResult) -> None:
    found = {name: metrics["accuracy"]["value"] for name, metrics in verdict.metrics["models"].items()}
    assert found == {"warm_head": pytest.approx(2 / 3), "finetuned": 1.0, "student": 1.0}
    assert all(set(metrics) == set(METRICS) for metrics in verdict.metrics["models"].values())
    assert verdict.metrics["test"]["samples"] == 6


def test_the_gain_and_the_student_s_loss_are_paired_differences(verdict: EvaluationResult) -> None:
    outcomes = verdict.predictions_by_model
    assert verdict.metrics["gain"] == paired_differences(outcomes["finetuned"], outcomes["warm_head"], 50, 3)
    assert verdict.metrics["student_loss"] == paired_differences(
        outcomes["student"], outcomes["finetuned"], 50, 3
    )
    assert verdict.metrics["gain"]["accuracy"]["value"] == pytest.approx(1 / 3)
    assert verdict.metrics["models"]["student"] == metric_intervals(outcomes["student"], 50, 3)


def test_the_predictions_are_the_answers_behind_the_metrics(verdict: EvaluationResult) -> None:
    table = verdict.predictions
    for name, metrics in verdict.metrics["models"].items():
        assert (table[name] == table["label"]).mean() == metrics["accuracy"]["value"]
        assert table[f"{name}_confidence"].between(1 / 3, 1).all()
    assert set(table.loc[table["label"] == "red", "warm_head"]) <= {"blue", "green"}


def test_each_model_is_measured_at_its_own_temperature(verdict: EvaluationResult) -> None:
    assert verdict.metrics["temperature"] == {"warm_head": 1.0, "finetuned": 1.0, "student": 2.0}
    student = verdict.predictions_by_model["student"]
    ratio = (
        np.log(student.uncalibrated).ptp(axis=1)
        if hasattr(np.ndarray, "ptp")
        else np.ptp(np.log(student.uncalibrated), axis=1)
    )
    np.testing.assert_allclose(np.ptp(np.log(student.probabilities), axis=1), ratio / 2)


def test_every_class_has_a_row_with_its_name(verdict: EvaluationResult) -> None:
    rows = {row["class"]: row for row in verdict.metrics["per_class"]["warm_head"]}
    assert set(rows) == set(LABELS)
    assert (rows["red"]["recall"], rows["red"]["precision"], rows["red"]["support"]) == (0.0, 0.0, 2.0)
    assert rows["green"]["recall"] == 1.0


def test_a_class_that_is_neither_true_nor_answered_has_no_row() -> None:
    outcome = SingleLabelPredictions(split_logits([0, 2, 2], 3, [True] * 3, 1.0), np.array([0, 2, 2]), 1.0)
    assert [row["class"] for row in class_rows(outcome, LABELS)] == ["blue", "red"]


@dataclass(frozen=True)
class SetSeer(BrightestChannelModel):
    """The same, which answers with every channel whose logit is above a threshold."""

    @property
    def meta(self) -> dict[str, Any]:
        """With thresholds."""
        return {**super().meta, "thresholds": [0.8, 0.8, 0.8]}


def test_label_sets_are_judged_by_metrics_of_their_own(pictures: Pictures) -> None:
    models = {"warm_head": SetSeer(("blue", "green")), "finetuned": SetSeer(), "student": SetSeer(margin=0.5)}
    rows = rows_of(pictures).assign(label=["", "blue|red", *rows_of(pictures)["label"][2:]])
    found = evaluate_models(models, rows, LABELS, pictures.folder(), 50, 3, 4, labelling=LABEL_SETS)
    assert found.metrics["main"] == "map"
    assert all(set(metrics) == set(SET_METRICS) for metrics in found.metrics["models"].values())
    assert set(found.metrics["gain"]) == set(SET_METRICS)
    assert [row["threshold"] for row in found.metrics["per_class"]["finetuned"]] == [0.8] * 3
    outcome = found.predictions_by_model["finetuned"]
    np.testing.assert_array_equal(outcome.labels[:2], [[0, 0, 0], [1, 0, 1]])
    assert (found.predictions["finetuned"] == rows["label"].to_numpy()).mean() == outcome.correct.mean()
    assert len(found.metrics["robustness"]) == 15


def test_a_test_set_is_known_by_contents_and_labels_in_any_order(pictures: Pictures) -> None:
    rows = rows_of(pictures)
    digest = digest_of(rows)
    assert digest_of(rows.iloc[::-1]) == digest
    assert digest_of(rows.assign(path=[f"moved/{p}" for p in rows["path"]])) == digest
    assert digest_of(rows.iloc[1:]) != digest
    assert digest_of(rows.assign(label="red")) != digest
    assert digest_of(pd.concat([rows, rows.tail(1)])) != digest


def test_judging_twice_gives_the_same(pictures: Pictures, verdict: EvaluationResult) -> None:
    again = evaluate_models(MODELS, rows_of(pictures), LABELS, pictures.folder(), 50, 3)
    assert again.metrics == verdict.metrics
    pd.testing.assert_frame_equal(again.predictions, verdict.predictions)


def test_the_corruptions_are_tried_on_the_same_part_of_the_test_set(pictures: Pictures) -> None:
    rows = rows_of(pictures)
    one, other = (
        evaluate_models(MODELS, table, LABELS, pictures.folder(), 10, 0, robustness_samples=4).metrics[
            "robustness"
        ]
        for table in (rows, rows.iloc[::-1])
    )
    assert len(one) == 15
    assert one == other


def test_the_reliability_diagram_shows_both_sides_of_the_temperature(verdict: EvaluationResult) -> None:
    rows = reliability_rows(verdict.predictions_by_model["student"])
    before, after = (sum(r["count"] * r["confidence"] for r in rows[k]) / 6 for k in ("before", "after"))
    assert before > after
    assert (
        reliability_rows(verdict.predictions_by_model["finetuned"])["before"]
        == reliability_rows(verdict.predictions_by_model["finetuned"])["after"]
    )
