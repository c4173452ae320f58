"""Intervals of one model's figures, by samples and by groups."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from steps.core.tasks.intervals import mean_interval, metric_intervals, share_of
from steps.core.tasks.label_sets import LabelSetPredictions
from steps.core.tasks.metrics import METRICS, SingleLabelPredictions
from steps.core.tasks.predictions import Ints
from steps.core.tasks.resampling import design_effect, group_numbers, resamples
from tests.bench.intervals import drawn_answers, measure
from tests.core.toys import split_logits


def test_the_accuracy_has_clopper_and_pearson_s_interval() -> None:
    for right, n in ((0, 1), (1, 1), (7, 10), (40, 40), (199, 200)):
        exact = binomtest(right, n).proportion_ci(method="exact")
        found = share_of(np.arange(n) < right, np.arange(n))
        assert (found["low"], found["high"]) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("per_class", [1, 2, 3, 5])
def test_intervals_cover_and_equal_challengers_fail_also_with_a_few_samples_a_class(
    per_class: int, groups: bool
) -> None:
    for row in measure(classes=10, per_class=per_class, grouped=groups, draws=300, bootstrap=0):
        assert row.holds, row


def test_perfect_answers_do_not_make_an_interval_a_point() -> None:
    labels = np.repeat(np.arange(5), 2)
    found = metric_intervals(
        SingleLabelPredictions(split_logits(labels, 5, [True] * 10, 9.0), labels, 1.0), 50, 0
    )
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc"):
        assert found[name]["value"] == found[name]["high"] == 1
        assert found[name]["low"] < 0.75, name


def test_a_class_of_one_sample_makes_a_macro_average_unsure() -> None:
    labels = np.array([1] + [0] * 99)
    found = metric_intervals(
        SingleLabelPredictions(split_logits(labels, 2, [True] * 100, 9.0), labels, 1.0), 50, 0
    )
    assert found["accuracy"]["low"] > 0.95
    assert found["balanced_accuracy"]["low"] < 0.5
    assert found["macro_auroc"]["low"] < 0.5


def grouped(groups: Ints, known: bool = True) -> SingleLabelPredictions:
    """Two of three groups are answered rightly."""
    labels = np.arange(len(groups)) % 2
    logits = split_logits(labels, 2, groups % 3 > 0, 1.0)
    return SingleLabelPredictions(logits, labels, 1.0, groups if known else None)


def test_samples_of_one_group_are_no_independent_evidence() -> None:
    groups = np.arange(600) // 20
    by_group, one_each = (metric_intervals(grouped(groups, known), 200, 0) for known in (True, False))
    for name in METRICS:
        wide, narrow = (found[name]["high"] - found[name]["low"] for found in (by_group, one_each))
        assert wide > 2 * narrow, name
    assert by_group["accuracy"]["high"] - by_group["accuracy"]["low"] == pytest.approx(
        share_of(np.arange(30) % 3 > 0, np.arange(30))["high"]
        - share_of(np.arange(30) % 3 > 0, np.arange(30))["low"],
        rel=0.1,
    )


def test_one_group_says_nothing() -> None:
    found = metric_intervals(grouped(np.zeros(40, np.int64)), 20, 0)
    assert found["accuracy"]["high"] - found["accuracy"]["low"] > 0.9
    assert (found["nll"]["low"], found["nll"]["high"]) == (-np.inf, np.inf)


def test_an_interval_shrinks_with_the_root_of_the_number_of_samples() -> None:
    widths = []
    for n in (200, 3200):
        found = share_of(np.arange(n) % 5 > 0, np.arange(n))
        widths.append(found["high"] - found["low"])
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.1)


def test_a_wider_level_gives_a_wider_interval_around_the_same_value() -> None:
    outcome = drawn_answers(5, 20, False, np.random.default_rng(7))
    narrow, wide = (metric_intervals(outcome, 50, 0, level) for level in (0.5, 0.95))
    for name in METRICS:
        assert wide[name]["value"] == narrow[name]["value"]
        assert wide[name]["low"] <= narrow[name]["low"] <= narrow[name]["high"] <= wide[name]["high"], name


def test_every_metric_has_an_interval_around_its_value_that_repeats_itself() -> None:
    outcome = drawn_answers(5, 20, False, np.random.default_rng(8))
    found = metric_intervals(outcome, 50, 3)
    assert set(found) == set(METRICS)
    assert all(row["low"] <= row["value"] <= row["high"] for row in found.values())
    assert found == metric_intervals(outcome, 50, 3)
    assert found != metric_intervals(outcome, 50, 4)


def test_the_interval_of_a_mean_is_student_s() -> None:
    values = np.random.default_rng(0).normal(size=30)
    found = mean_interval(values, np.arange(30))
    half = 2.045 * values.std(ddof=1) / np.sqrt(30)
    assert found["high"] - found["value"] == pytest.approx(half, rel=1e-3)


def test_resamples_are_rows_with_repetition() -> None:
    found = list(resamples(np.arange(50), 30, 1))
    assert all(len(rows) == 50 and rows.min() >= 0 and rows.max() < 50 for rows in found)
    assert any(len(set(rows.tolist())) < 50 for rows in found)
    assert all(np.array_equal(a, b) for a, b in zip(found, resamples(np.arange(50), 30, 1), strict=True))


def test_a_group_is_drawn_whole() -> None:
    groups = np.array([7, 3, 7, 3, 3, 9])
    for rows in resamples(groups, 40, 0):
        counts = np.bincount(rows, minlength=6)
        assert counts[0] == counts[2]
        assert counts[1] == counts[3] == counts[4]
        assert counts[0] + counts[1] + counts[5] == 3


def test_rows_without_a_group_are_groups_by_themselves() -> None:
    numbers = group_numbers(pd.DataFrame({"group": ["a", None, "a", None]}))
    assert numbers is not None
    assert numbers[0] == numbers[2]
    assert len(set(numbers.tolist())) == 3
    assert group_numbers(pd.DataFrame({"group": [None, None]})) is None
    assert group_numbers(pd.DataFrame({"path": ["x"]})) is None


def test_the_design_effect_of_groups_that_answer_as_one_is_their_size() -> None:
    groups = np.arange(400) // 8
    assert design_effect((groups % 2).astype(float), groups) == pytest.approx(8, rel=0.05)
    assert design_effect(np.arange(400) % 2.0, groups) == 1.0


def test_a_file_that_always_says_no_does_not_agree_with_a_model_of_rare_labels() -> None:
    labels = np.zeros((100, 20), dtype=np.int64)
    labels[np.arange(100), np.arange(100) % 20] = np.arange(100) % 3 == 0
    model = LabelSetPredictions(8.0 * labels - 4, labels, 1.0, np.full(20, 0.5))
    never = model.with_logits(np.full(labels.shape, -4.0))
    assert (never.predicted == model.predicted).mean() > 0.98
    assert model.agreement(never) == 0
    assert model.agreement(model) == never.agreement(never) == 1
