from typing import Any

import pytest
from pydantic import ValidationError

from steps.core.strategy.search_space import SearchSpace, When, skip_reason

GOOD: dict[str, Any] = {
    "trials": 5, "uniform_trials": 2, "startup_trials": 2,
    "head_lr_low": 1e-4, "head_lr_high": 1e-2, "ratio_low": 0.1, "ratio_high": 1.0,
    "per_boundary": False, "weight_decay": None, "prune_after": 1, "keep_fraction": 0.5, "finalists": 2,
    "repeats": 2, "comparison_repeats": 0,
    "worker_timeout": 60.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ratio_high": 1.01}, "an earlier stage may not learn faster"),
        ({"ratio_low": 1.0}, "ratio_low < ratio_high"),
        ({"ratio_low": 0.0}, "greater than 0"),
        ({"head_lr_low": 1e-2}, "head_lr_low below head_lr_high"),
        ({"head_lr_high": 1e-5}, "head_lr_low below head_lr_high"),
        ({"weight_decay": [0.1, 0.1]}, "weight_decay low below high"),
        ({"weight_decay": [0.0, 0.1]}, "greater than 0"),
        ({"prune_after": 0}, "greater than or equal to 1"),
        ({"comparison_repeats": 4}, "0, or at least 5"),
        ({"trials": 0}, "greater than or equal to 1"),
        ({"pruner": "median"}, "not permitted"),
    ],
)
def test_an_empty_range_or_a_ratio_above_one_is_refused(change: dict[str, Any], says: str) -> None:
    assert SearchSpace(**GOOD).ratio_high == 1.0
    with pytest.raises(ValidationError, match=says):
        SearchSpace(**{**GOOD, **change})


@pytest.mark.parametrize(
    ("when", "samples", "says"),
    [
        ("auto", 299, "299 validation samples cannot tell good rates from better ones, from 300 on"),
        ("auto", 300, None),
        ("always", 1, None),
        ("never", 10_000, "when is never"),
    ],
)
def test_a_search_that_validation_could_not_judge_is_skipped_with_the_reason(
    when: When, samples: int, says: str | None
) -> None:
    reason = skip_reason(when, samples, 300)
    assert (reason is None) is (says is None)
    assert (says or "") in (reason or "")
