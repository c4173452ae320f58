"""Two models on the same samples: intervals of what one gains, and exact tests."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from steps.core.tasks.comparisons import (
    accuracy_difference,
    least_p_value,
    paired_differences,
    paired_test,
    sign_flip_p,
    swap_test_p,
)
from steps.core.tasks.intervals import metric_intervals
from steps.core.tasks.label_sets import LabelSetPredictions
from steps.core.tasks.metrics import METRICS, SingleLabelPredictions
from steps.core.tasks.predictions import Bools, Ints
from tests.bench.intervals import drawn_answers
from tests.core.toys import split_logits


def right(answers: Bools, groups: Ints | None = None) -> SingleLabelPredictions:
    labels = np.zeros(len(answers), dtype=np.int64)
    return SingleLabelPredictions(split_logits(labels, 2, answers, 1.0), labels, 1.0, groups)


def test_a_model_compared_with_itself_gains_nothing_and_that_is_not_certain() -> None:
    outcome = drawn_answers(5, 10, False, np.random.default_rng(9))
    for name, found in paired_differences(outcome, outcome, 50, 0).items():
        assert found["value"] == 0, name
        assert found["low"] < 0 < found["high"] or name == "nll", name


def test_a_comparison_turned_round_has_the_opposite_sign() -> None:
    one, other = (drawn_answers(5, 10, False, np.random.default_rng(seed)) for seed in (10, 11))
    there, back = paired_differences(one, other, 60, 0), paired_differences(other, one, 60, 0)
    for name in METRICS:
        assert there[name]["value"] == -back[name]["value"]
        assert there[name]["low"] == pytest.approx(-back[name]["high"])


def test_the_gain_in_accuracy_is_bonett_and_price_s() -> None:
    one, other = right(np.arange(40) < 30), right((np.arange(40) < 20) | (np.arange(40) >= 38))
    found = accuracy_difference(one, other)
    more, less = 11 / 42, 3 / 42
    half = 1.959964 * np.sqrt((more + less - (more - less) ** 2) / 42)
    assert found["value"] == pytest.approx(8 / 40)
    assert (found["low"], found["high"]) == pytest.approx((more - less - half, more - less + half))


def test_pairing_makes_the_interval_of_a_small_gain_narrower_than_either_model_s() -> None:
    answers = np.arange(400) % 10 < 7
    one, other = right(answers | (np.arange(400) % 40 == 9)), right(answers)
    gain, alone = accuracy_difference(one, other), metric_intervals(one, 50, 0)["accuracy"]
    assert gain["value"] == pytest.approx(10 / 400)
    assert gain["low"] > 0
    assert gain["high"] - gain["low"] < 0.5 * (alone["high"] - alone["low"])


def test_a_paired_comparison_needs_the_same_samples() -> None:
    with pytest.raises(ValueError, match="the same samples in the same order"):
        paired_differences(right(np.ones(10, bool)), right(np.ones(9, bool)), 10, 0)


def test_without_groups_the_test_is_mcnemar_s() -> None:
    one, other = right(np.arange(40) < 30), right((np.arange(40) < 20) | (np.arange(40) >= 38))
    found = paired_test(one, other)
    assert (found["only_first"], found["only_second"]) == (10, 2)
    assert found["p"] == pytest.approx(binomtest(10, 12).pvalue)
    assert found["p_better"] == pytest.approx(binomtest(10, 12, alternative="greater").pvalue)
    assert paired_test(one, one) == {"only_first": 0, "only_second": 0, "p": 1.0, "p_better": 1.0}


def test_the_test_by_groups_counts_every_way_to_turn_them_round() -> None:
    gain, groups = np.array([1, 1, 1, -1, 1, 0, 1, 1]), np.array([0, 0, 0, 1, 2, 2, 3, 3])
    sums = (3, -1, 1, 2)
    every = [np.dot(sums, signs) for signs in itertools.product((1, -1), repeat=4)]
    assert sign_flip_p(gain, groups) == pytest.approx(np.mean([total >= 5 for total in every]))
    assert least_p_value(gain, groups) == 1 / 16


def test_one_won_and_none_lost_is_no_evidence_and_twenty_samples_of_one_group_are_none_either() -> None:
    assert paired_test(right(np.array([True, True])), right(np.array([False, True])))["p_better"] == 0.5
    groups = np.repeat([0, 1, 2], 20)
    one, other = right(groups >= 0, groups), right(groups > 0, groups)
    assert paired_test(one, other)["p_better"] == 0.5
    assert accuracy_difference(one, other)["low"] < 0


def label_sets(noise: float, seed: int) -> LabelSetPredictions:
    labels = (np.random.default_rng(0).random((60, 3)) < 0.4).astype(np.int64)
    logits = 2.0 * labels - 1.0 + noise * np.random.default_rng(seed).normal(size=labels.shape)
    return LabelSetPredictions(logits, labels, 1.0, np.full(3, 0.5))


def test_exchanged_answers_show_a_better_ranking_and_not_an_equal_one() -> None:
    assert swap_test_p(label_sets(0.8, 1), label_sets(2.5, 2), 99, 0) == 0.01
    assert swap_test_p(label_sets(2.5, 1), label_sets(0.8, 2), 99, 0) > 0.9
    assert swap_test_p(label_sets(1.0, 1), label_sets(1.0, 1), 99, 0) == 1.0
    equal = [swap_test_p(label_sets(1.5, 2 * k), label_sets(1.5, 2 * k + 1), 19, k) for k in range(100)]
    assert np.mean(np.array(equal) <= 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 100)
