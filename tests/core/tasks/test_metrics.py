import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn import metrics as sk

from steps.core.tasks.intervals import interval, mcnemar, metric_intervals, paired_differences, resamples
from steps.core.tasks.metrics import (
    METRICS,
    SingleLabelPredictions,
    accuracy,
    auroc_per_class,
    balanced_accuracy,
    calibration_error,
    coverage,
    ece,
    ece_uncalibrated,
    fit_temperature,
    macro_auroc,
    macro_f1,
    negative_log_likelihood,
    per_class,
    reliability,
)
from tests.core.toys import split_logits

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def drawn(seed: int, n: int = 200, classes: int = 5, scale: float = 2.0) -> tuple[Floats, Ints]:
    """Random logits, and labels drawn from the very probabilities that they stand for."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, scale, (n, classes))
    uniform = generator.random((n, 1))
    labels = (softmax(logits, axis=1).cumsum(axis=1) < uniform).sum(axis=1)
    return logits, np.minimum(labels, classes - 1)


def everything(outcome: SingleLabelPredictions) -> Ints:
    return np.arange(len(outcome.labels))


def binary(confidence: Floats, right: NDArray[np.bool_]) -> SingleLabelPredictions:
    """Answers between two classes with a given confidence."""
    logits = np.zeros((len(confidence), 2))
    logits[:, 0] = np.log(confidence / (1 - confidence))
    return SingleLabelPredictions(logits, np.where(right, 0, 1), 1.0)


@given(st.integers(0, 10**6), st.integers(2, 6), st.sampled_from([0.5, 1.0, 3.0]))
def test_every_metric_is_scikit_learn_s(seed: int, classes: int, temperature: float) -> None:
    logits, labels = drawn(seed, 60, classes)
    outcome = SingleLabelPredictions(logits, labels, temperature)
    rows = everything(outcome)
    answers, p = logits.argmax(axis=1), softmax(logits / temperature, axis=1)
    assert accuracy(outcome, rows) == pytest.approx(sk.accuracy_score(labels, answers))
    recalls = sk.recall_score(labels, answers, labels=np.unique(labels), average="macro", zero_division=0)
    assert balanced_accuracy(outcome, rows) == pytest.approx(recalls)
    if set(answers) <= set(labels):  # scikit-learn warns otherwise
        wanted = sk.balanced_accuracy_score(labels, answers)
        assert balanced_accuracy(outcome, rows) == pytest.approx(wanted)
    wanted = sk.f1_score(labels, answers, average="macro", zero_division=0)
    assert macro_f1(outcome, rows) == pytest.approx(wanted)
    wanted = sk.log_loss(labels, p, labels=range(classes))
    assert negative_log_likelihood(outcome, rows) == pytest.approx(wanted)
    wanted = sk.confusion_matrix(labels, answers, labels=range(classes))
    assert np.array_equal(outcome.confusion(rows), wanted)


@given(st.integers(0, 10**6))
def test_precision_recall_and_f1_of_every_class_are_scikit_learn_s(seed: int) -> None:
    logits, labels = drawn(seed, 15, 6)
    outcome = SingleLabelPredictions(logits, labels, 1.0)
    found = per_class(outcome.confusion(everything(outcome)))
    seen = found["class"].astype(int)
    assert set(seen) == {*labels, *logits.argmax(1)}
    wanted = sk.precision_recall_fscore_support(labels, logits.argmax(1), labels=seen, zero_division=0)
    for name, column in zip(("precision", "recall", "f1", "support"), wanted, strict=True):
        np.testing.assert_allclose(found[name], column, err_msg=name)


@given(st.integers(0, 10**6))
def test_a_metric_of_some_rows_is_the_metric_of_these_rows_alone(seed: int) -> None:
    logits, labels = drawn(seed, 40)
    rows = np.random.default_rng(seed).integers(0, 40, 40)
    whole, part = (
        SingleLabelPredictions(logits, labels, 1.5),
        SingleLabelPredictions(logits[rows], labels[rows], 1.5),
    )
    for name, metric in METRICS.items():
        assert metric(whole, rows) == pytest.approx(metric(part, everything(part))), name


def test_the_order_of_the_samples_changes_nothing() -> None:
    logits, labels = drawn(1)
    order = np.random.default_rng(0).permutation(len(labels))
    one, other = (
        SingleLabelPredictions(logits, labels, 1.2),
        SingleLabelPredictions(logits[order], labels[order], 1.2),
    )
    for name, metric in METRICS.items():
        assert metric(one, everything(one)) == pytest.approx(metric(other, everything(other))), name


def test_the_temperature_changes_the_probabilities_and_never_the_answers() -> None:
    logits, labels = drawn(2)
    cold, hot = SingleLabelPredictions(logits, labels, 1.0), SingleLabelPredictions(logits, labels, 5.0)
    rows = everything(cold)
    assert accuracy(cold, rows) == accuracy(hot, rows)
    assert ece_uncalibrated(hot, rows) == ece(cold, rows) == ece_uncalibrated(cold, rows)
    assert ece(hot, rows) != ece(cold, rows)


def test_the_calibration_error_of_a_calibrated_classifier_is_near_zero() -> None:
    logits, labels = drawn(3, 40_000, 4)
    assert calibration_error(softmax(logits, axis=1), labels) < 0.01


def test_the_calibration_error_of_an_overconfident_classifier_is_its_overconfidence() -> None:
    right = np.arange(1000) % 10 < 6
    outcome = binary(np.full(1000, 0.99), right)
    assert ece(outcome, everything(outcome)) == pytest.approx(0.39)


def test_errors_of_opposite_sign_in_different_bins_do_not_cancel() -> None:
    confidence = np.repeat([0.6, 0.9], 500)
    right = np.concatenate([np.arange(500) < 450, np.arange(500) < 300])  # 0.9 and 0.6
    outcome = binary(confidence, right)
    assert ece(outcome, everything(outcome)) == pytest.approx(0.3)


def test_the_reliability_diagram_counts_every_sample_once() -> None:
    logits, labels = drawn(4, 500)
    p = softmax(logits, axis=1)
    rows = reliability(p, labels)
    assert sum(row["count"] for row in rows) == 500
    total = sum(row["count"] * row["accuracy"] for row in rows)
    assert total == pytest.approx((p.argmax(1) == labels).sum())
    assert [row["confidence"] for row in rows] == sorted(row["confidence"] for row in rows)
    certain = reliability(np.array([[1.0, 0.0]]), np.array([0]))
    assert certain == [{"count": 1.0, "confidence": 1.0, "accuracy": 1.0}]


@pytest.mark.parametrize("planted", [0.4, 1.0, 3.0])
def test_a_planted_temperature_is_recovered_within_five_percent(planted: float) -> None:
    logits, labels = drawn(5, 20_000)
    assert fit_temperature(logits * planted, labels) == pytest.approx(planted, rel=0.05)


def test_the_temperature_lowers_the_log_loss_and_the_calibration_error() -> None:
    logits, labels = drawn(6, 3000)
    logits = logits * 4
    outcome = SingleLabelPredictions(logits, labels, fit_temperature(logits, labels))
    rows = everything(outcome)
    raw = SingleLabelPredictions(logits, labels, 1.0)
    assert negative_log_likelihood(outcome, rows) < negative_log_likelihood(raw, rows)
    assert ece(outcome, rows) < 0.5 * ece_uncalibrated(outcome, rows)


def test_the_temperature_stays_between_its_bounds_where_every_answer_is_right_or_wrong() -> None:
    labels = np.arange(30) % 3
    right, wrong = (
        fit_temperature(split_logits(labels, 3, [answer] * 30, 5.0), labels) for answer in (True, False)
    )
    assert 1 / 20 <= right < 0.2
    assert 19.9 < wrong <= 20


def test_the_interval_of_the_accuracy_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    truth, n, covered = 0.8, 300, 0
    for trial in range(200):
        labels = np.zeros(n, dtype=np.int64)
        outcome = SingleLabelPredictions(
            split_logits(labels, 2, generator.random(n) < truth, 1.0), labels, 1.0
        )
        values = np.array([accuracy(outcome, rows) for rows in resamples(labels, 250, trial)])
        found = interval(values, accuracy(outcome, everything(outcome)), 0.95)
        covered += found["low"] <= truth <= found["high"]
    assert 0.93 <= covered / 200 < 1


@pytest.mark.parametrize("recalls", [(0.9, 0.6), (0.7, 0.7), (0.95, 0.8)])
def test_the_interval_covers_the_truth_where_two_classes_are_known_differently_well(
    recalls: tuple[float, float],
) -> None:
    generator = np.random.default_rng(5)
    labels = np.repeat([0, 1], (160, 80))
    truth, covered = float(np.average(recalls, weights=(160, 80))), 0
    for trial in range(1000):  # the rate is known to 0.007; of 200 it would be to 0.016
        right = generator.random(240) < np.take(recalls, labels)
        outcome = SingleLabelPredictions(split_logits(labels, 2, right, 1.0), labels, 1.0)
        values = np.array([accuracy(outcome, rows) for rows in resamples(labels, 400, trial)])
        found = interval(values, accuracy(outcome, everything(outcome)), 0.95)
        covered += found["low"] <= truth <= found["high"]
    assert 0.93 <= covered / 1000 < 1


def test_an_interval_shrinks_with_the_root_of_the_number_of_samples() -> None:
    widths = []
    for n in (200, 3200):
        labels = np.zeros(n, dtype=np.int64)
        found = metric_intervals(
            SingleLabelPredictions(split_logits(labels, 2, np.arange(n) % 5 > 0, 1.0), labels, 1.0), 200, 0
        )
        widths.append(found["accuracy"]["high"] - found["accuracy"]["low"])
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.3)


def test_a_wider_level_gives_a_wider_interval_around_the_same_value() -> None:
    outcome = SingleLabelPredictions(*drawn(7), 1.0)
    narrow, wide = (metric_intervals(outcome, 200, 0, level)["accuracy"] for level in (0.5, 0.95))
    assert narrow["value"] == wide["value"] == accuracy(outcome, everything(outcome))
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]


def test_evaluation_names_every_metric_and_repeats_itself() -> None:
    outcome = SingleLabelPredictions(*drawn(8), 1.0)
    found = metric_intervals(outcome, 50, 3)
    assert set(found) == set(METRICS)
    assert found == metric_intervals(outcome, 50, 3)
    assert found != metric_intervals(outcome, 50, 4)


def test_a_model_compared_with_itself_differs_by_exactly_nothing() -> None:
    outcome = SingleLabelPredictions(*drawn(9), 1.3)
    for name, found in paired_differences(outcome, outcome, 50, 0).items():
        assert found == {"value": 0.0, "low": 0.0, "high": 0.0}, name


def test_a_comparison_turned_round_has_the_opposite_sign() -> None:
    logits, labels = drawn(10)
    one, other = (
        SingleLabelPredictions(logits, labels, 1.0),
        SingleLabelPredictions(logits[:, ::-1], labels, 1.0),
    )
    there, back = paired_differences(one, other, 60, 0), paired_differences(other, one, 60, 0)
    for name in METRICS:
        assert there[name]["value"] == -back[name]["value"]
        assert there[name]["low"] == pytest.approx(-back[name]["high"])


def test_pairing_makes_the_interval_of_a_small_gain_narrower_than_either_model_s() -> None:
    labels = np.zeros(400, dtype=np.int64)
    right = np.arange(400) % 10 < 7
    better = right | (np.arange(400) % 40 == 9)
    one, other = (
        SingleLabelPredictions(split_logits(labels, 2, r, 1.0), labels, 1.0) for r in (better, right)
    )
    gain, alone = (
        paired_differences(one, other, 300, 0)["accuracy"],
        metric_intervals(one, 300, 0)["accuracy"],
    )
    assert gain["value"] == pytest.approx(10 / 400)
    assert gain["low"] > 0
    assert gain["high"] - gain["low"] < 0.5 * (alone["high"] - alone["low"])


def test_a_paired_comparison_needs_the_same_samples() -> None:
    logits, labels = drawn(11)
    with pytest.raises(ValueError, match="the same samples in the same order"):
        paired_differences(
            SingleLabelPredictions(logits, labels, 1.0),
            SingleLabelPredictions(logits, (labels + 1) % 5, 1.0),
            10,
            0,
        )
    with pytest.raises(ValueError, match="the same samples"):
        paired_differences(
            SingleLabelPredictions(logits, labels, 1.0),
            SingleLabelPredictions(logits[:9], labels[:9], 1.0),
            10,
            0,
        )


def test_resamples_are_rows_with_repetition_each_class_as_often_as_it_is() -> None:
    labels = np.repeat([0, 3, 1], [20, 25, 5])
    found = list(resamples(labels, 30, 1))
    assert all(len(rows) == 50 and rows.min() >= 0 and rows.max() < 50 for rows in found)
    assert all(np.bincount(labels[rows]).tolist() == [20, 5, 0, 25] for rows in found)
    assert any(len(set(rows.tolist())) < 50 for rows in found)
    assert all(np.array_equal(a, b) for a, b in zip(found, resamples(labels, 30, 1), strict=True))


@given(st.integers(0, 10**6), st.integers(2, 5), st.booleans())
def test_the_auroc_is_scikit_learn_s_also_with_ties(seed: int, classes: int, ties: bool) -> None:
    logits, labels = drawn(seed, 60, classes)
    outcome = SingleLabelPredictions(logits.round() if ties else logits, labels, 1.0)
    rows = np.random.default_rng(seed).integers(0, 60, 60)
    for number, area in enumerate(auroc_per_class(outcome, rows)):
        own = labels[rows] == number
        if own.all() or not own.any():
            assert np.isnan(area)
        else:
            wanted = sk.roc_auc_score(own, outcome.probabilities[rows, number])
            assert area == pytest.approx(wanted)
            assert 0 <= macro_auroc(outcome, rows) <= 1


def test_without_two_classes_there_is_no_ranking() -> None:
    outcome = SingleLabelPredictions(np.zeros((3, 2)), np.zeros(3, dtype=np.int64), 1.0)
    assert macro_auroc(outcome, everything(outcome)) == 0.5


def test_mcnemar_is_the_sign_test_of_the_samples_that_only_one_has_right() -> None:
    labels = np.zeros(40, dtype=np.int64)
    one, other = (
        SingleLabelPredictions(split_logits(labels, 2, right, 1.0), labels, 1.0)
        for right in (np.arange(40) < 30, (np.arange(40) < 20) | (np.arange(40) >= 38))
    )
    assert mcnemar(one, other) == {"only_first": 10, "only_second": 2, "p": binomtest(10, 12).pvalue}
    assert mcnemar(one, one) == {"only_first": 0, "only_second": 0, "p": 1.0}


def test_the_coverage_curve_keeps_the_most_confident() -> None:
    confidence = np.linspace(0.99, 0.51, 100)
    outcome = binary(confidence, np.arange(100) < 80)
    rows = coverage(outcome)
    assert [row["coverage"] for row in rows] == pytest.approx([n / 20 for n in range(1, 21)])
    assert rows[15]["accuracy"] == 1.0
    assert rows[-1]["accuracy"] == 0.8
    assert rows[-1]["confidence"] == pytest.approx(0.51)
    assert coverage(binary(confidence[:1], np.array([True]))) == [
        {"coverage": 1.0, "accuracy": 1.0, "confidence": pytest.approx(0.99)}
    ]


def test_extreme_logits_give_finite_figures() -> None:
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]])
    outcome = SingleLabelPredictions(logits, np.array([0, 0]), 1.0)
    rows = everything(outcome)
    assert accuracy(outcome, rows) == 0.5
    assert negative_log_likelihood(outcome, rows) == pytest.approx(1e4)
    assert all(np.isfinite(metric(outcome, rows)) for metric in METRICS.values())
