from typing import Any

import pytest
from pydantic import ValidationError

from steps.core.audit.limits import Limits

GOOD: dict[str, Any] = {
    "suite": "expectations.json", "labels": None,
    "min_per_class": 1, "max_unreadable": 0.1, "split_tolerance": 0.1,
    "duplicates": "warn", "repair": False,
    "near_copy": 0.98, "near_copy_margin": 0.1, "max_leaked": 0.01, "max_imbalance": 20.0,
    "shortcut_level": 0.01, "shortcut_gain": 0.2, "identity_likeness": 0.65,
    "permutations": 19, "max_drift": 0.7, "max_suspects": 0.02,
    "audit_samples": 1000, "probe_samples": 1000,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"max_unreadable": 1.1},
        {"duplicates": "ignore"},
        {"labels": "cat"},
        {"near_copy": 0.4},
        {"permutations": 9},
        {"max_drift": 0.4},
    ],
    ids=str,
)
def test_limits_out_of_range_are_refused(change: dict[str, Any]) -> None:
    assert Limits(**GOOD).labels is None
    with pytest.raises(ValidationError) as caught:
        Limits(**{**GOOD, **change})
    assert {error["loc"][0] for error in caught.value.errors()} == set(change)
