from typing import Any

import numpy as np
import pytest

from steps.core.promotion.gates import champion_gates, compare_with_champion, gate, metric_gates
from steps.core.tasks.label_sets import LabelSetPredictions
from steps.core.tasks.metrics import SingleLabelPredictions
from tests.bench.promotion_decisions import CHALLENGERS, CLASSES, answered, count_decisions
from tests.bench.small_sets import SMALL_SETS
from tests.core.evaluation.test_evaluation import SetSeer
from tests.core.toys import LABELS, BrightestChannelModel, split_logits

CFG = {"bootstrap": 200, "seed": 0, "champion_margin": 0.0, "class_margin": 0.05, "calibration_margin": 0.02}
HALF_BLIND = BrightestChannelModel(known=("blue", "green"))


def metrics(accuracy: float, macro_f1: float, ece: float) -> dict[str, Any]:
    values = {"accuracy": accuracy, "macro_f1": macro_f1, "ece": ece}
    return {name: {"value": value, "low": value - 0.1, "high": value + 0.1} for name, value in values.items()}


LIMITS = {"min_accuracy": 0.8, "min_macro_f1": 0.75, "max_ece": 0.1}


@pytest.mark.parametrize(
    ("found", "passed"),
    [
        (metrics(0.9, 0.9, 0.05), [True, True, True]),
        (metrics(0.8, 0.75, 0.1), [True, True, True]),
        (metrics(0.79, 0.9, 0.05), [False, True, True]),
        (metrics(0.9, 0.74, 0.05), [True, False, True]),
        (metrics(0.9, 0.9, 0.19), [True, True, True]),  # its lower end is below the limit
        (metrics(0.9, 0.9, 0.21), [True, True, False]),
        (metrics(0.1, 0.1, 0.9), [False, False, False]),
        (metrics(float("nan"), 0.9, float("nan")), [False, True, False]),
    ],
)
@pytest.mark.parametrize("verdict", ["pass", "warn", "fail"])
def test_every_gate_is_held_also_after_one_has_failed(
    found: dict[str, Any], passed: list[bool], verdict: str
) -> None:
    rows = metric_gates(found, LIMITS, verdict)
    assert [row["passed"] for row in rows] == [*passed, verdict != "fail"]
    assert [row["gate"] for row in rows] == ["accuracy", "macro_f1", "ece", "data not rejected"]


def test_a_gate_carries_its_evidence() -> None:
    row = gate("ece", {"value": 0.2, "low": 0.1, "high": 0.3}, "at most", 0.1)
    assert row == {
        "gate": "ece",
        "found": {"value": 0.2, "low": 0.1, "high": 0.3},
        "sense": "at most",
        "limit": 0.1,
        "passed": False,
    }


def test_a_gate_holds_the_end_of_the_interval_that_its_sense_names() -> None:
    found = {"value": 0.2, "low": 0.1, "high": 0.3}
    held = {
        (sense, limit): gate("x", found, sense, limit)["passed"]
        for sense in ("at least", "at most", "low above", "high above", "low at most")
        for limit in (0.1, 0.2, 0.3)
    }
    assert {key for key, passed in held.items() if passed} == {
        ("at least", 0.1), ("at least", 0.2), ("at most", 0.2), ("at most", 0.3),
        ("high above", 0.1), ("high above", 0.2),
        ("low at most", 0.1), ("low at most", 0.2), ("low at most", 0.3),
    }  # fmt: skip


TRUTH = np.repeat(np.arange(3), 6)


def meet(
    champion: BrightestChannelModel, challenger: BrightestChannelModel, **changes: Any
) -> list[dict[str, Any]]:
    """Let two models that see perfectly what they know answer six samples of each class."""
    logits = {
        seer: split_logits(TRUTH, 3, [LABELS[k] in seer.known for k in TRUTH], 4.0)
        for seer in (champion, challenger)
    }
    new = SingleLabelPredictions(logits[challenger], TRUTH, 1.0)
    return champion_gates(champion, logits[champion], new, LABELS, {**CFG, **changes})  # type: ignore[arg-type]


def test_a_better_challenger_beats_the_champion_and_not_the_other_way_round() -> None:
    row, *others = meet(HALF_BLIND, BrightestChannelModel())
    assert row["passed"]
    assert all(other["passed"] for other in others)
    assert row["found"]["value"] == pytest.approx(1 / 3)
    assert row["note"] == "6 won, 0 lost, McNemar's exact test: p = 0.0156, one-sided"
    back, lost, _ = meet(BrightestChannelModel(), HALF_BLIND)
    assert not back["passed"]
    assert back["found"]["value"] == pytest.approx(-1 / 3)
    assert not lost["passed"]
    assert lost["note"].startswith("lost: red -1.00 (n 6, p 0.016)")


def test_a_challenger_that_is_just_as_good_does_not_replace_the_champion() -> None:
    row, *others = meet(BrightestChannelModel(), BrightestChannelModel())
    assert row["found"]["low"] < row["found"]["value"] == 0 < row["found"]["high"]
    assert not row["passed"]
    assert all(other["passed"] for other in others)


def test_the_margin_is_what_the_lower_bound_must_be_above() -> None:
    low = meet(HALF_BLIND, BrightestChannelModel())[0]["found"]["low"]
    for margin, passed in ((low - 1e-9, True), (low, False), (1.0, False)):
        row = meet(HALF_BLIND, BrightestChannelModel(), champion_margin=margin)[0]
        assert (row["passed"], row["limit"]) == (passed, margin)


@pytest.mark.parametrize("name", CHALLENGERS)
def test_the_gates_decide_rightly_on_every_challenger(name: str) -> None:
    row = count_decisions(name)
    assert row.right == row.seeds == 20, row


@pytest.mark.parametrize("name", SMALL_SETS)
def test_on_few_samples_the_gates_decide_rightly_as_often_as_the_bench_says(name: str) -> None:
    row = count_decisions(name)
    assert row.right >= SMALL_SETS[name][2], row


def test_one_answer_more_or_samples_of_one_group_do_not_beat_the_champion() -> None:
    labels = np.zeros(20, dtype=np.int64)
    for groups, first_right, passed in (
        (None, 1, False),  # 1 won, 0 lost
        (None, 4, False),
        (None, 6, True),
        (np.arange(20) // 10, 20, False),
    ):
        old, new = (
            SingleLabelPredictions(split_logits(labels, 2, right, 2.0), labels, 1.0, groups)
            for right in (np.arange(20) >= first_right, np.ones(20, bool))
        )
        row = compare_with_champion(old, new, ["a", "b"], CFG)[0]
        assert row["passed"] is passed, (groups, first_right, row)
        assert ("2 groups, too few to tell" in row["note"]) == (groups is not None)


def test_a_negative_margin_lets_a_challenger_pass_that_is_not_shown_to_be_worse() -> None:
    labels = np.zeros(400, dtype=np.int64)
    same = SingleLabelPredictions(split_logits(labels, 2, np.arange(400) % 10 > 0, 2.0), labels, 1.0)
    assert compare_with_champion(same, same, ["a", "b"], {**CFG, "champion_margin": -0.05})[0]["passed"]
    assert not compare_with_champion(same, same, ["a", "b"], CFG)[0]["passed"]


def test_a_class_of_a_handful_of_samples_is_not_condemned_by_chance() -> None:
    labels = np.repeat(np.arange(CLASSES), [100, 100, 100, 100, 3])
    condemned = 0
    for seed in range(40):
        one, other = (
            SingleLabelPredictions(answered(labels, [0.8] * CLASSES, 2 * seed + k), labels, 1.0)
            for k in (0, 1)
        )
        condemned += not compare_with_champion(one, other, list("abcde"), {**CFG, "seed": seed})[1]["passed"]
    assert condemned <= 4


def sets(noise: float, seed: int) -> LabelSetPredictions:
    """Answers to the same 300 samples of three labels that may occur together."""
    labels = (np.random.default_rng(0).random((300, 3)) < 0.4).astype(np.int64)
    logits = 2.0 * labels - 1.0 + noise * np.random.default_rng(seed).normal(size=labels.shape)
    return LabelSetPredictions(logits, labels, 1.0, np.full(3, 0.5))


def test_label_sets_are_held_by_their_own_limits() -> None:
    names = ("macro_auroc", "map", "macro_f1", "ece", "accuracy")
    found = {name: {"value": 0.5, "low": 0.4, "high": 0.6} for name in names}
    limits = {**LIMITS, "min_macro_auroc": 0.4, "min_map": 0.6, "min_accuracy": 1.0, "max_ece": 1.0}
    rows = metric_gates(found, limits, "pass")
    assert [(row["gate"], row["passed"]) for row in rows] == [
        ("macro_auroc", True), ("map", False), ("macro_f1", False), ("ece", True),
        ("data not rejected", True),
    ]  # fmt: skip


def test_a_better_model_of_label_sets_beats_the_champion_and_a_worse_one_loses_labels() -> None:
    good, bad = sets(0.8, 1), sets(2.0, 2)
    better = compare_with_champion(bad, good, LABELS, CFG)
    assert [row["passed"] for row in better] == [True, True, True]
    assert better[0]["found"]["value"] > 0.1
    worse = compare_with_champion(good, bad, LABELS, CFG)
    assert [row["passed"] for row in worse[:2]] == [False, False]
    assert {row["class"] for row in worse[1]["classes"]} == set(LABELS)
    assert {row["verdict"] for row in worse[1]["classes"]} == {"lost"}


def test_label_sets_are_not_compared_with_single_labels() -> None:
    logits = np.zeros((2, len(LABELS)))
    single = SingleLabelPredictions(logits, np.zeros(2, np.int64), 1.0)
    (row,) = champion_gates(SetSeer(), logits, single, LABELS, CFG)
    assert (row["sense"], row["passed"]) == ("same labels", False)
