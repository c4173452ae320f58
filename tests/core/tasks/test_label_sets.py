"""Metrics of label sets against scikit-learn, thresholds from validation alone, answers in words."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn import metrics as sk
from sklearn.exceptions import UndefinedMetricWarning

from steps.core.tasks import label_sets as ml
from steps.core.tasks.comparisons import paired_differences, paired_test
from steps.core.tasks.intervals import metric_intervals
from steps.core.tasks.metrics import coverage, macro_auroc
from steps.core.tasks.thresholds import (
    choose_threshold,
    fit_temperature_and_thresholds,
    format_prediction,
    predictions_of,
)

N, K = 60, 4
NAMES = ["a", "b", "c", "d"]
ROWS = np.arange(N)


def sets(seed: int = 0, noise: float = 1.0, ties: bool = False) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    labels = (generator.random((N, K)) < [0.5, 0.3, 0.2, 0.1]).astype(np.int64)
    logits = 2.0 * labels - 1.0 + noise * generator.normal(size=(N, K))
    return np.round(logits, 0) if ties else logits, labels


def outcome(
    seed: int = 0, noise: float = 1.0, ties: bool = False, threshold: float = 0.5
) -> ml.LabelSetPredictions:
    logits, labels = sets(seed, noise, ties)
    return ml.LabelSetPredictions(logits, labels, 1.3, np.full(K, threshold))


@given(st.integers(0, 50), st.booleans())
def test_macro_auroc_and_map_are_scikit_learn_s(seed: int, ties: bool) -> None:
    found = outcome(seed, ties=ties)
    p, y = found.probabilities, found.labels
    known = [k for k in range(K) if 0 < y[:, k].sum() < N]
    assert macro_auroc(found, ROWS) == pytest.approx(
        np.mean([sk.roc_auc_score(y[:, k], p[:, k]) for k in known])
    )
    occurring = [k for k in range(K) if y[:, k].any()]
    assert ml.mean_average_precision(found, ROWS) == pytest.approx(
        sk.average_precision_score(y[:, occurring], p[:, occurring], average="macro")
    )


@given(st.integers(0, 50))
def test_the_figures_of_a_resample_are_those_of_the_repeated_samples(seed: int) -> None:
    found = outcome(seed, ties=True)
    rows = np.random.default_rng(seed).integers(0, N, N)
    again = ml.LabelSetPredictions(found.logits[rows], found.labels[rows], 1.3, found.thresholds)
    for name, metric in ml.SET_METRICS.items():
        assert metric(found, rows) == pytest.approx(metric(again, ROWS)), name


def test_f1_subset_accuracy_and_loss_are_scikit_learn_s() -> None:
    found = outcome(3, noise=2.0, threshold=0.4)
    y, said = found.labels, found.predicted
    assert ml.macro_f1(found, ROWS) == pytest.approx(sk.f1_score(y, said, average="macro"))
    assert ml.micro_f1(found, ROWS) == pytest.approx(sk.f1_score(y, said, average="micro"))
    values = metric_intervals(found, 100, 0)
    assert values["accuracy"]["value"] == pytest.approx(sk.accuracy_score(y, said))
    losses = [sk.log_loss(y[:, k], found.probabilities[:, k], labels=[0, 1]) for k in range(K)]
    assert values["nll"]["value"] == pytest.approx(np.mean(losses))
    assert all(row["low"] <= row["value"] <= row["high"] for row in values.values())


def test_the_calibration_error_of_a_label_is_counted_by_hand() -> None:
    p = np.array([0.1, 0.1, 0.9, 0.9])
    found = ml.LabelSetPredictions(logit(p)[:, None], np.array([[0], [1], [1], [1]]), 1.0, np.array([0.5]))
    assert ml.ece_per_label(found, np.arange(4))[0] == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)


@given(st.integers(0, 100), st.booleans())
def test_a_threshold_has_the_best_f1_of_all_thresholds(seed: int, ties: bool) -> None:
    logits, labels = sets(seed, 1.5, ties)
    p, y = expit(logits[:, 0]), labels[:, 0]
    found = choose_threshold(p, y)
    best = max(sk.f1_score(y, p >= t) for t in np.unique(p))
    assert sk.f1_score(y, p >= found) == pytest.approx(best)
    assert found not in p


def test_between_equals_the_most_even_threshold_is_taken_and_without_a_question_one_half() -> None:
    assert choose_threshold(np.array([0.9, 0.8, 0.3, 0.1]), np.array([1, 1, 0, 0])) == pytest.approx(0.55)
    assert choose_threshold(np.array([0.9, 0.8]), np.array([0, 0])) == 0.5
    assert choose_threshold(np.array([0.9, 0.8]), np.array([1, 1])) == 0.5


def test_what_is_chosen_on_validation_makes_probabilities_and_f1_better() -> None:
    logits, labels = sets(1, 2.0)
    chosen = fit_temperature_and_thresholds(3 * logits, labels)
    fitted = predictions_of(3 * logits, labels, chosen)
    plain = ml.LabelSetPredictions(3 * logits, labels, 1.0, np.full(K, 0.5))
    assert isinstance(fitted, ml.LabelSetPredictions)
    assert fitted.nll.mean() < plain.nll.mean()
    assert ml.macro_f1(fitted, ROWS) > ml.macro_f1(plain, ROWS)
    assert len(chosen["thresholds"]) == K
    assert set(fit_temperature_and_thresholds(logits, labels.argmax(axis=1))) == {"temperature"}


def test_comparisons_are_paired_and_of_the_same_samples() -> None:
    one, other = (
        outcome(0, 0.5),
        ml.LabelSetPredictions(np.zeros((N, K)), outcome(0).labels, 1.0, np.full(K, 0.5)),
    )
    gain = paired_differences(one, other, 200, 0)
    assert set(gain) == set(ml.SET_METRICS)
    assert gain["map"]["low"] > 0
    same = paired_differences(one, one, 100, 0)
    assert all(row["value"] == 0 and row["low"] <= 0 <= row["high"] for row in same.values())
    assert paired_test(one, other)["only_first"] > paired_test(one, other)["only_second"]
    with pytest.raises(ValueError, match="same samples"):
        paired_differences(one, outcome(5), 100, 0)


def test_confidence_is_the_probability_of_the_whole_set() -> None:
    found = ml.LabelSetPredictions(
        logit(np.array([[0.9, 0.2]])), np.array([[1, 0]]), 1.0, np.array([0.5, 0.5])
    )
    assert found.confidence[0] == pytest.approx(0.9 * 0.8)
    assert found.correct.tolist() == [True]
    assert coverage(found)[-1]["accuracy"] == 1.0


def test_the_table_has_a_row_per_label_and_none_where_nothing_can_be_measured() -> None:
    logits, labels = sets()
    labels[:, 3] = 0
    found = ml.LabelSetPredictions(logits, labels, 1.0, np.array([0.4, 0.5, 0.6, 0.5]))
    with pytest.warns(UndefinedMetricWarning):
        wanted = sk.precision_recall_fscore_support(labels, found.predicted)
    rows = ml.label_rows(found, NAMES, 100, 0)
    assert [row["class"] for row in rows] == NAMES
    for k, row in enumerate(rows):
        assert row["threshold"] == found.thresholds[k]
        for name, column in zip(("precision", "recall", "f1", "support"), wanted, strict=True):
            assert row[name] == pytest.approx(column[k]), (row["class"], name)
    assert rows[3]["auroc"] is None
    assert rows[3]["intervals"]["average_precision"] is None
    span = rows[0]["intervals"]["auroc"]
    assert span["low"] < rows[0]["auroc"] == span["value"] < span["high"]


def test_an_answer_is_the_labels_above_their_thresholds_and_all_probabilities() -> None:
    meta = {"labels": ["a", "b"], "temperature": 2.0, "thresholds": [0.7, 0.2]}
    said = format_prediction(2 * logit(np.array([0.6, 0.3])), meta)
    assert said["labels"] == ["b"]
    assert said["probabilities"] == {"a": pytest.approx(0.6), "b": pytest.approx(0.3)}
    assert format_prediction(np.array([3.0, 1.0]), {"labels": ["a", "b"], "temperature": 1.0})["label"] == "a"
    assert outcome().as_texts(NAMES)[0] == "|".join(
        n for n, yes in zip(NAMES, outcome().predicted[0], strict=True) if yes
    )
