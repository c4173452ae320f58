import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn import metrics as sk

from steps.core.tasks.calibration_error import calibration_error, reliability
from steps.core.tasks.metrics import (
    METRICS,
    SingleLabelPredictions,
    accuracy,
    auroc_per_class,
    balanced_accuracy,
    coverage,
    ece,
    ece_uncalibrated,
    fit_temperature,
    macro_auroc,
    macro_f1,
    negative_log_likelihood,
    per_class,
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
        fit_temperature(split_logits(labels, 3, [answer] * 30, 50.0), labels) for answer in (True, False)
    )
    assert 19.9 < wrong <= 20
    assert fit_temperature(split_logits(labels, 3, [True] * 30, 0.1), labels) == pytest.approx(
        1 / 3, rel=1e-3
    )
    assert softmax(np.array([50.0, 0.0, 0.0]) / right)[0] == pytest.approx(30 / 31, abs=1e-3)


def test_perfect_validation_does_not_make_a_model_certain() -> None:
    """32 right answers of a model that is right in nine of ten."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 32)
    logits = split_logits(labels, 5, [True] * 32, 1.8) + generator.normal(0, 0.3, (32, 5))
    temperature = fit_temperature(logits, labels)
    assert 0.9 < softmax(logits / temperature, axis=1).max(axis=1).mean() < 0.99
    fresh = generator.integers(0, 5, 2000)
    more = split_logits(fresh, 5, generator.random(2000) < 0.9, 1.8) + generator.normal(0, 0.3, (2000, 5))
    one, other = (SingleLabelPredictions(more, fresh, t) for t in (temperature, 1 / 20))
    assert one.nll.mean() < 0.6 < other.nll.mean()


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
