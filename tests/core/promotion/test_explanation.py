"""A decision in words: every gate has a remedy, every verdict a reason."""

from typing import Any

import pytest

from steps.core.promotion.explanation import REMEDIES, explain
from steps.core.promotion.gates import exact_figure, gate

PASSED = gate("accuracy", exact_figure(0.9), "at least", 0.8)


def test_a_promoted_model_is_said_to_have_passed_all() -> None:
    assert explain("promoted", [PASSED], {}) == ["Promoted because all 1 gates passed."]


@pytest.mark.parametrize("verdict", ["rejected", "not promoted"])
def test_each_failed_gate_is_named_with_what_to_do(verdict: str) -> None:
    low = gate("accuracy", {"value": 0.75, "low": 0.68, "high": 0.82}, "at least", 0.8)
    parity = [
        {**gate(f"parity: student, fp32, {level}", exact_figure(0.5), "at most", 0.1), "note": "largest"}
        for level in ("logits", "probabilities")
    ]
    reason, *todo = explain(verdict, [PASSED, low, *parity], {})
    assert reason.startswith("Not promoted because accuracy is 0.75 (0.68 to 0.82), needed: at least 0.8; ")
    assert "parity: student, fp32, logits is 0.5, needed: at most 0.1 (largest)" in reason
    assert [line.split(":")[0] for line in todo] == ["What to do about accuracy", "What to do about parity"]


def test_what_the_registry_decides_is_said_too() -> None:
    assert "another model became champion" in explain("superseded", [PASSED], {})[0]
    told = explain("rolled back", [PASSED], {"rolled_back": "ann: too many false alarms"})
    assert told == ["Rolled back: ann: too many false alarms."]


def test_every_gate_that_can_fail_has_a_remedy() -> None:
    from steps.core.promotion.gates import MULTILABEL, SINGLE, metric_gates
    from tests.core.promotion.test_gates import CFG, HALF_BLIND, LIMITS, meet, metrics

    names = {name for name, *_ in (*SINGLE, *MULTILABEL)}
    names |= {row["gate"] for row in metric_gates(metrics(0.1, 0.1, 0.9), LIMITS, "fail")}
    rows: list[dict[str, Any]] = meet(HALF_BLIND, HALF_BLIND, **CFG)
    names |= {row["gate"] for row in rows}
    names |= {"megabytes", "latency p50, ms", "models judged on the test set", "not rolled back", "parity"}
    names |= {"test images unknown to both"}
    assert names <= set(REMEDIES)
