from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from steps.core.court import duel, gate, hold_gates, meet_champion
from steps.core.labels import ONE_LABEL, Labelling
from steps.core.metrics import Outcome
from steps.core.multilabel import SetOutcome

from .test_evaluation import SetSeer
from .toys import LABELS, Pictures, Seer, draw_pictures

CFG = {"bootstrap": 200, "seed": 0, "champion_margin": 0.0, "class_margin": 0.05, "calibration_margin": 0.02}
HALF_BLIND = Seer(known=("blue", "green"))


@dataclass(frozen=True)
class Data:
    pictures: Pictures

    @property
    def root(self) -> str:
        return str(self.pictures.root)

    @property
    def labels(self) -> list[str]:
        return LABELS

    @property
    def labelling(self) -> Labelling:
        return ONE_LABEL

    @property
    def verdict(self) -> str:
        return "pass"

    def part(self, split: str) -> pd.DataFrame:
        return self.pictures.table[self.pictures.table["split"] == split]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(draw_pictures(tmp_path_factory.mktemp("court") / "data", {"test": 6}))


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
        (metrics(0.9, 0.9, 0.11), [True, True, False]),
        (metrics(0.1, 0.1, 0.9), [False, False, False]),
        (metrics(float("nan"), 0.9, float("nan")), [False, True, False]),
    ],
)
@pytest.mark.parametrize("verdict", ["pass", "warn", "fail"])
def test_every_gate_is_held_also_after_one_has_failed(
    found: dict[str, Any], passed: list[bool], verdict: str
) -> None:
    rows = hold_gates(found, LIMITS, verdict)
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


def test_a_better_challenger_beats_the_champion_and_not_the_other_way_round(
    data: Data, tmp_path: Path
) -> None:
    row, *others = meet_champion(HALF_BLIND, Seer(), data, CFG, tmp_path)
    assert row["passed"]
    assert all(other["passed"] for other in others)
    assert row["found"]["value"] == pytest.approx(1 / 3)
    # red is a third of the samples, and resampled within its class: there is nothing left to chance
    assert row["found"]["low"] == pytest.approx(row["found"]["high"]) == pytest.approx(1 / 3)
    back, lost, _ = meet_champion(Seer(), HALF_BLIND, data, CFG, tmp_path)
    assert not back["passed"]
    assert back["found"]["value"] == pytest.approx(-1 / 3)
    assert (lost["passed"], lost["note"]) == (False, "worst: red")


def test_a_challenger_that_is_just_as_good_does_not_replace_the_champion(data: Data, tmp_path: Path) -> None:
    row, *others = meet_champion(Seer(), Seer(), data, CFG, tmp_path)
    assert row["found"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert not row["passed"]
    assert all(other["passed"] for other in others)


def test_the_margin_is_what_the_lower_bound_must_be_above(data: Data, tmp_path: Path) -> None:
    low = meet_champion(HALF_BLIND, Seer(), data, CFG, tmp_path)[0]["found"]["low"]
    for margin, passed in ((low - 1e-9, True), (low, False), (1.0, False)):
        cfg = {**CFG, "champion_margin": margin}
        row = meet_champion(HALF_BLIND, Seer(), data, cfg, tmp_path)[0]
        assert (row["passed"], row["limit"]) == (passed, margin)


def test_a_champion_with_other_labels_cannot_be_compared_and_is_not_replaced(
    data: Data, tmp_path: Path
) -> None:
    stranger = Seer(labels=("a", "b", "c"))
    (row,) = meet_champion(stranger, HALF_BLIND, data, CFG, tmp_path)
    assert not row["passed"]
    assert "champion knows ['a', 'b', 'c']: set promote.name" in row["note"]


CLASSES, SAMPLES = 5, 400
Logits = NDArray[np.float64]


def answered(labels: NDArray[np.int64], skill: list[float], seed: int) -> Logits:
    """Logits of a calibrated model that answers each class rightly with a probability of its own."""
    draw = np.random.default_rng(seed)
    right = draw.random(len(labels)) < np.array(skill)[labels]
    wrong = (labels + draw.integers(1, CLASSES, len(labels))) % CLASSES
    said = np.where(right, labels, wrong)
    sure = np.log(np.mean(right) / (1 - np.mean(right)) * (CLASSES - 1))
    logits: Logits = np.eye(CLASSES)[said] * sure + draw.normal(scale=0.05, size=(len(labels), CLASSES))
    return logits


def challengers(labels: NDArray[np.int64], seed: int) -> dict[str, Logits]:
    """What may come before the court, beside a champion that is right four times of five."""
    better = answered(labels, [0.93] * CLASSES, seed + 1)
    return {
        "better": better,
        "the champion itself": answered(labels, [0.8] * CLASSES, seed),
        "worse": answered(labels, [0.7] * CLASSES, seed + 2),
        "trained on shuffled labels": answered(labels, [1 / CLASSES] * CLASSES, seed + 3),
        "better, but one class is ruined": answered(labels, [0.99] * 4 + [0.4], seed + 4),
        "better, but far too sure": answered(labels, [0.88] * CLASSES, seed + 5) * 8,
    }


RULINGS = {
    "better": [],
    "the champion itself": ["beats champion"],
    "worse": ["beats champion"],
    "trained on shuffled labels": ["beats champion", "no class is lost"],
    "better, but one class is ruined": ["no class is lost"],
    "better, but far too sure": ["calibration"],
}
"""The gates that must fail, whatever others do; who has none must pass them all."""


@pytest.mark.parametrize("name", RULINGS)
def test_the_court_rules_rightly_on_whoever_comes_before_it(name: str) -> None:
    wrong = []
    for seed in range(20):
        labels = np.random.default_rng(seed).integers(0, CLASSES, SAMPLES)
        champion = Outcome(answered(labels, [0.8] * CLASSES, 100 * seed), labels, 1.0)
        challenger = Outcome(challengers(labels, 100 * seed)[name], labels, 1.0)
        rows = duel(champion, challenger, list("abcde"), {**CFG, "seed": seed})
        failed = {row["gate"] for row in rows if not row["passed"]}
        if not failed >= set(RULINGS[name]) or bool(failed) != bool(RULINGS[name]):
            wrong.append((seed, sorted(failed)))
    assert not wrong


def test_a_class_of_a_handful_of_samples_is_not_condemned_by_chance() -> None:
    labels = np.repeat(np.arange(CLASSES), [100, 100, 100, 100, 3])
    condemned = 0
    for seed in range(40):
        one, other = (Outcome(answered(labels, [0.8] * CLASSES, 2 * seed + k), labels, 1.0) for k in (0, 1))
        condemned += not duel(one, other, list("abcde"), {**CFG, "seed": seed})[1]["passed"]
    assert condemned <= 4


def sets(noise: float, seed: int) -> SetOutcome:
    """Answers to the same 300 samples of three labels that may occur together."""
    labels = (np.random.default_rng(0).random((300, 3)) < 0.4).astype(np.int64)
    logits = 2.0 * labels - 1.0 + noise * np.random.default_rng(seed).normal(size=labels.shape)
    return SetOutcome(logits, labels, 1.0, np.full(3, 0.5))


def test_label_sets_are_held_by_their_own_limits() -> None:
    names = ("macro_auroc", "map", "macro_f1", "ece", "accuracy")
    found = {name: {"value": 0.5, "low": 0.4, "high": 0.6} for name in names}
    limits = {**LIMITS, "min_macro_auroc": 0.4, "min_map": 0.6, "min_accuracy": 1.0, "max_ece": 1.0}
    rows = hold_gates(found, limits, "pass")
    assert [(row["gate"], row["passed"]) for row in rows] == [
        ("macro_auroc", True), ("map", False), ("macro_f1", False), ("ece", True),
        ("data not rejected", True),
    ]  # fmt: skip


def test_a_better_model_of_label_sets_beats_the_champion_and_a_worse_one_loses_labels() -> None:
    good, bad = sets(0.8, 1), sets(2.0, 2)
    better = duel(bad, good, LABELS, CFG)
    assert [row["passed"] for row in better] == [True, True, True]
    assert better[0]["found"]["value"] > 0.1
    worse = duel(good, bad, LABELS, CFG)
    assert [row["passed"] for row in worse[:2]] == [False, False]
    assert {row["class"] for row in worse[1]["classes"]} == set(LABELS)


def test_label_sets_are_not_compared_with_single_labels(data: Data, tmp_path: Path) -> None:
    (row,) = meet_champion(SetSeer(), Seer(), data, CFG, tmp_path)
    assert (row["sense"], row["passed"]) == ("same labels", False)
