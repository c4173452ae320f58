"""Whether a class has lost recall: equal models are seldom accused, and what cannot be seen is said."""

import numpy as np
import pytest

from steps.core.promotion.class_losses import class_losses, decidable, holm, losses_needed, matched_mask
from steps.core.tasks.label_sets import LabelSetPredictions
from steps.core.tasks.metrics import SingleLabelPredictions
from steps.core.tasks.predictions import Bools, Ints
from tests.bench.intervals import drawn_answers
from tests.core.toys import split_logits


def rows(old: Bools, new: Bools, labels: Ints, groups: Ints | None = None) -> dict[str, dict[str, object]]:
    classes = int(labels.max()) + 1
    models = (
        SingleLabelPredictions(split_logits(labels, classes, right, 2.0), labels, 1.0, groups)
        for right in (old, new)
    )
    names = [str(k) for k in range(classes)]
    return {row["class"]: row for row in class_losses(*models, names, 0.05, 0.05, 0.9)}


@pytest.mark.parametrize(("classes", "per_class"), [(38, 1), (5, 10)])
def test_an_equal_challenger_is_rejected_in_at_most_five_percent(classes: int, per_class: int) -> None:
    generator, rejected = np.random.default_rng(0), 0
    for _ in range(150):
        pair = (drawn_answers(classes, per_class, False, generator) for _ in range(2))
        found = class_losses(*pair, [str(k) for k in range(classes)], 0.05, 0.05, 0.9)
        rejected += any(row["verdict"] == "lost" for row in found)
    assert rejected / 150 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 150)


def test_a_class_is_lost_kept_or_has_too_few_samples_to_tell() -> None:
    labels = np.repeat([0, 1, 2], [20, 20, 3])
    old = np.ones(43, dtype=bool)
    new = old.copy()
    new[:10] = False  # half of the first class
    found = rows(old, new, labels)
    assert {name: row["verdict"] for name, row in found.items()} == {"0": "lost", "1": "kept", "2": "too few"}
    assert found["0"]["p"] == pytest.approx(0.5**10)
    assert found["1"]["visible"] == pytest.approx(losses_needed(2, 0.05) / 20)
    assert found["0"]["value"] == -0.5


def test_losses_within_one_group_are_one_loss() -> None:
    labels = np.repeat([0, 1], 40)
    new = np.arange(80) >= 20
    assert rows(np.ones(80, bool), new, labels)["0"]["verdict"] == "lost"
    assert rows(np.ones(80, bool), new, labels, np.arange(80) // 20)["0"]["verdict"] == "too few"


def test_of_the_tests_that_cannot_be_significant_none_is_corrected_for() -> None:
    least = np.array([0.5**8, 0.5, 0.25, 1.0])
    able = decidable(least, 0.05)
    assert able.tolist() == [0]
    assert holm(np.array([0.01, 0.5, 0.25, 1.0]), able).tolist() == [0.01, 1.0, 1.0, 1.0]
    assert holm(np.array([0.01, 0.04, 0.03]), np.arange(3)) == pytest.approx([0.03, 0.06, 0.06])


def sets(seed: int, thresholds: float = 0.5) -> LabelSetPredictions:
    labels = (np.random.default_rng(0).random((120, 20)) < 0.2).astype(np.int64)
    logits = 3.0 * labels - 1.5 + 1.5 * np.random.default_rng(seed).normal(size=labels.shape)
    return LabelSetPredictions(logits, labels, 1.0, np.full(20, thresholds))


def test_label_sets_are_compared_where_both_say_yes_equally_often() -> None:
    old, strict = sets(1), sets(1, thresholds=0.9)
    assert strict.predicted.sum() < 0.8 * old.predicted.sum()
    matched = matched_mask(old, strict)
    assert np.array_equal(matched.sum(axis=1), old.predicted_mask.sum(axis=1))
    assert np.array_equal(matched, old.predicted_mask)  # the same model, whatever its thresholds
    names = [str(k) for k in range(20)]
    rejected = 0
    for k in range(100):
        found = class_losses(sets(2 * k), sets(2 * k + 1), names, 0.05, 0.05, 0.9)
        rejected += any(row["verdict"] == "lost" for row in found)
    assert rejected / 100 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 100)
