from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from steps.core.court import gate, hold_gates, meet_champion

from .toys import LABELS, Pictures, Seer, draw_pictures

CFG = {"bootstrap": 200, "seed": 0, "champion_margin": 0.0}
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
def test_every_gate_is_held_also_after_one_has_failed(found: dict[str, Any], passed: list[bool]) -> None:
    rows = hold_gates(found, LIMITS)
    assert [row["passed"] for row in rows] == passed
    assert [row["gate"] for row in rows] == ["accuracy", "macro_f1", "ece"]


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
    row = meet_champion(HALF_BLIND, Seer(), data, CFG, tmp_path)
    assert row["passed"]
    assert row["found"]["value"] == pytest.approx(1 / 3)
    assert 0 < row["found"]["low"] < 1 / 3 < row["found"]["high"]
    back = meet_champion(Seer(), HALF_BLIND, data, CFG, tmp_path)
    assert not back["passed"]
    assert back["found"]["value"] == pytest.approx(-1 / 3)


def test_a_challenger_that_is_just_as_good_does_not_replace_the_champion(data: Data, tmp_path: Path) -> None:
    row = meet_champion(Seer(), Seer(), data, CFG, tmp_path)
    assert row["found"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert not row["passed"]


def test_the_margin_is_what_the_lower_bound_must_be_above(data: Data, tmp_path: Path) -> None:
    low = meet_champion(HALF_BLIND, Seer(), data, CFG, tmp_path)["found"]["low"]
    for margin, passed in ((low - 1e-9, True), (low, False), (1.0, False)):
        cfg = {**CFG, "champion_margin": margin}
        row = meet_champion(HALF_BLIND, Seer(), data, cfg, tmp_path)
        assert (row["passed"], row["limit"]) == (passed, margin)


def test_a_champion_with_other_labels_cannot_be_compared_and_is_not_replaced(
    data: Data, tmp_path: Path
) -> None:
    stranger = Seer(labels=("a", "b", "c"))
    row = meet_champion(stranger, HALF_BLIND, data, CFG, tmp_path)
    assert not row["passed"]
    assert "champion knows ['a', 'b', 'c']: set promote.name" in row["note"]
