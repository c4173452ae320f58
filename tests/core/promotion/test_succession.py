"""Champion and challenger whose classes, or whose test images, are not the same."""

from typing import Any

import numpy as np
import pytest

from steps.core.promotion.gates import champion_gates
from steps.core.promotion.succession import Ground, common_ground, spread
from steps.core.tasks.label_sets import LabelSetPredictions
from steps.core.tasks.metrics import SingleLabelPredictions
from tests.core.evaluation.test_evaluation import SetSeer
from tests.core.toys import BrightestChannelModel, split_logits

CFG: dict[str, Any] = {
    "bootstrap": 200, "seed": 0, "champion_margin": 0.0, "class_margin": 0.05, "calibration_margin": 0.02,
    "min_unknown": 20, "on_new_classes": "compare_common", "on_lost_classes": "refuse", "renamed": {},
}  # fmt: skip
OLD, NEW = ["blue", "green", "red"], ["blue", "green", "red", "yellow"]
TRUTH = np.repeat(np.arange(4), 20)  # of NEW
ALL = np.ones(len(TRUTH), dtype=bool)


def champion(right: float, seed: int = 0) -> np.ndarray[Any, Any]:
    """Logits of a champion that knows the three old classes; what it says of yellow is anything."""
    hits = np.random.default_rng(seed).random(len(TRUTH)) < right
    return split_logits(TRUTH % 3, 3, hits, 3.0)


def challenger(right: float, seed: int = 1) -> SingleLabelPredictions:
    hits = np.random.default_rng(seed).random(len(TRUTH)) < right
    return SingleLabelPredictions(split_logits(TRUTH, 4, hits, 3.0), TRUTH, 1.0)


def meet(
    old: Any, new: SingleLabelPredictions, labels: list[str] = NEW, **changes: Any
) -> list[dict[str, Any]]:
    cfg = {**CFG, **changes}
    return champion_gates(
        BrightestChannelModel(labels=tuple(OLD)), old, new, labels, cfg, ALL, "none is known"
    )  # type: ignore[arg-type]


def test_a_better_challenger_with_a_new_class_succeeds_and_a_worse_one_does_not() -> None:
    unknown, *rows = meet(champion(0.6), challenger(0.95))
    assert (unknown["gate"], unknown["found"]["value"]) == ("test images unknown to both", 60.0)
    assert all(row["passed"] for row in (unknown, *rows))
    assert "blue, green, red; 60 of 80 test images are of them); new: yellow" in rows[0]["note"]
    assert "McNemar" in rows[0]["note"]
    worse = meet(champion(0.95), challenger(0.6))
    assert not worse[1]["passed"]


def test_what_is_compared_is_the_accuracy_on_the_rows_of_the_common_classes() -> None:
    old, new = champion(0.6), challenger(0.9)
    common = TRUTH < 3
    gained = new.correct[common].mean() - (old.argmax(axis=1) == TRUTH)[common].mean()
    assert meet(old, new)[1]["found"]["value"] == pytest.approx(gained)


def test_an_old_picture_that_is_taken_for_the_new_class_is_wrong() -> None:
    says_yellow = np.tile([0.0, 0.0, 0.0, 9.0], (len(TRUTH), 1))
    (_, row, *_) = meet(champion(0.6), SingleLabelPredictions(says_yellow, TRUTH, 1.0))
    assert row["found"]["value"] < -0.4
    assert not row["passed"]


def test_a_new_class_may_also_be_a_reason_to_refuse() -> None:
    (row,) = meet(champion(0.6), challenger(0.95), on_new_classes="refuse")
    assert not row["passed"]
    assert row["note"].startswith("the champion does not know yellow: set promote.on_new_classes")
    assert "promote.name" in row["note"]


LESS = TRUTH < 2


def without_red(right: float) -> SingleLabelPredictions:
    """A challenger for a data set that has no red any more."""
    hits = np.random.default_rng(1).random(LESS.sum()) < right
    return SingleLabelPredictions(split_logits(TRUTH[LESS], 2, hits, 3.0), TRUTH[LESS], 1.0)


def meet_less(**changes: Any) -> list[dict[str, Any]]:
    cfg, rows = {**CFG, **changes}, np.ones(LESS.sum(), dtype=bool)
    old = champion(0.5)[LESS]
    return champion_gates(
        BrightestChannelModel(labels=tuple(OLD)), old, without_red(0.95), OLD[:2], cfg, rows, ""
    )  # type: ignore[arg-type]


def test_a_class_that_is_gone_is_given_up_only_where_the_params_say_so() -> None:
    (row,) = meet_less()
    assert not row["passed"]
    for words in ("knows red, which", "promote.renamed", "promote.on_lost_classes", "promote.name"):
        assert words in row["note"]
    rows = meet_less(on_lost_classes="compare_common")
    assert all(row["passed"] for row in rows)
    assert "given up: red" in rows[1]["note"]


def test_a_renamed_class_is_the_same_class() -> None:
    labels = ["azure", "green", "red"]
    new = SingleLabelPredictions(challenger(0.95).logits[:60, :3], TRUTH[:60], 1.0)
    old, rows = champion(0.6)[:60], np.ones(60, dtype=bool)
    (row,) = champion_gates(BrightestChannelModel(labels=tuple(OLD)), old, new, labels, CFG, rows, "")  # type: ignore[arg-type]
    assert "knows blue" in row["note"]
    cfg = {**CFG, "renamed": {"blue": "azure"}}
    ground = common_ground({"labels": OLD, "temperature": 1.0}, old, new, labels, rows, cfg)
    assert isinstance(ground, Ground)
    assert np.array_equal(ground.champion.logits, old)
    assert ground.said == ""


def test_a_renamed_class_may_stand_at_another_place() -> None:
    labels = ["green", "red", "violet"]  # blue, which was the first, is the last
    cfg = {**CFG, "renamed": {"blue": "violet"}}
    old = champion(0.6)[:60]
    truth = np.array([2, 0, 1])[TRUTH[:60]]
    new = SingleLabelPredictions(split_logits(truth, 3, True, 3.0), truth, 1.0)
    meta = {"labels": OLD, "temperature": 1.0}
    ground = common_ground(meta, old, new, labels, np.ones(60, dtype=bool), cfg)
    assert isinstance(ground, Ground)
    assert np.array_equal(ground.champion.correct, old.argmax(axis=1) == TRUTH[:60])
    assert ground.challenger.correct.all()


@pytest.mark.parametrize(
    ("labels", "renamed", "says"),
    [
        (["x", "y", "z", "yellow"], {}, "the champion knows blue, green, red, which"),
        (["blue", "x", "y", "yellow"], {}, "the champion knows green, red, which"),
        (NEW, {"blue": "green"}, "gives two of the champion's classes one name"),
    ],
)
def test_classes_that_cannot_be_told_together_are_refused_in_words(
    labels: list[str], renamed: dict[str, str], says: str
) -> None:
    (row,) = meet(champion(0.6), challenger(0.95), labels, renamed=renamed)
    assert not row["passed"]
    assert says in row["note"]


def test_one_class_in_common_is_too_few() -> None:
    labels = ["blue", "x", "y", "yellow"]
    (row,) = meet(champion(0.6), challenger(0.95), labels, on_lost_classes="compare_common")
    assert "they have 1 class(es) in common, expected at least two" in row["note"]


def test_images_that_one_of_them_knows_are_left_out_and_too_few_are_refused_in_words() -> None:
    knows = np.zeros(len(TRUTH), dtype=bool)
    knows[::2] = True
    hits = np.random.default_rng(3).random(len(TRUTH)) < np.where(knows, 1.0, 0.5)
    old = split_logits(TRUTH, 4, hits, 3.0)
    new = challenger(0.8)
    seer = BrightestChannelModel(labels=tuple(NEW))
    biased = champion_gates(seer, old, new, NEW, CFG, ALL, "")  # type: ignore[arg-type]
    fair = champion_gates(seer, old, new, NEW, CFG, ~knows, "it knows half")  # type: ignore[arg-type]
    assert not biased[1]["passed"]
    assert all(row["passed"] for row in fair)
    assert (fair[0]["found"]["value"], fair[0]["note"]) == (40.0, "it knows half")
    few = champion_gates(seer, old, new, NEW, {**CFG, "min_unknown": 41}, ~knows, "it knows half")  # type: ignore[arg-type]
    assert [(row["gate"], row["passed"]) for row in few] == [("test images unknown to both", False)]
    assert few[0]["note"] == "too few to be compared on: it knows half"


def sets(noise: float, seed: int, classes: int = 3) -> LabelSetPredictions:
    labels = (np.random.default_rng(0).random((200, 3)) < 0.4).astype(np.int64)[:, :classes]
    draw = np.random.default_rng(seed).normal(size=labels.shape)
    return LabelSetPredictions(2.0 * labels - 1.0 + noise * draw, labels, 1.0, np.full(classes, 0.5))


def test_of_label_sets_the_common_labels_are_compared_on_all_rows() -> None:
    new, old = sets(0.5, 1), sets(2.0, 2, classes=2)
    meta = {"labels": ["blue", "green"], "temperature": 1.0, "thresholds": [0.5, 0.5]}
    ground = common_ground(meta, old.logits, new, OLD, np.ones(200, dtype=bool), CFG)
    assert isinstance(ground, Ground)
    assert ground.names == ["blue", "green"]
    assert np.array_equal(ground.challenger.logits, new.logits[:, :2])
    assert np.array_equal(ground.champion.labels, new.labels[:, :2])
    assert "new: red" in ground.said
    few = common_ground(
        {**meta, "labels": ["x", "y"]}, old.logits, new, OLD, np.ones(200, dtype=bool),
        {**CFG, "on_lost_classes": "compare_common"},
    )  # fmt: skip
    assert isinstance(few, str)
    assert few.startswith("they have no label in common")


def test_label_sets_are_not_compared_with_single_labels() -> None:
    single = SingleLabelPredictions(np.zeros((2, 3)), np.zeros(2, np.int64), 1.0)
    rows = np.ones(2, dtype=bool)
    (row,) = champion_gates(SetSeer(), np.zeros((2, 3)), single, OLD, CFG, rows, "")  # type: ignore[arg-type]
    assert (row["passed"], row["sense"]) == (False, "same labels")
    assert row["note"].startswith("one answers with one label, the other with sets: set promote.name")


def test_a_model_never_says_what_it_does_not_know() -> None:
    wide = spread(np.array([[1.0, 2.0]]), ["b", "a"], ["a", "b", "c"])
    assert wide.tolist() == [[2.0, 1.0, -np.inf]]
    assert SingleLabelPredictions(wide, np.array([0]), 1.0).probabilities[0, 2] == 0
