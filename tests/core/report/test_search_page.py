import re
from typing import Any

import pytest

from steps.core.report.search_page import render_search
from tests.core.strategy.test_search import SPACE, row


def summary(trials: list[dict[str, Any]]) -> dict[str, Any]:
    span = {"value": 0.5, "low": 0.4, "high": 0.6}
    return {
        "trials": len(trials),
        "pruned": 0,
        "finalists": [{**trials[0], "unfreeze": 2, "val_losses": [0.1, None], "val_loss": None}],
        "comparison": {"loss": span, "accuracy": span, "verdict": "better"},
        "soup": {"members": 1, "candidates": 1, "val_loss": 0.1, "winner_val_loss": 0.1, "kept": False},
    }


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("ratio", [0.5, [0.5, 0.25]])
def test_the_page_needs_no_other_file_and_is_the_same_every_time(count: int, ratio: Any) -> None:
    trials = [
        row(0.1 + k, head_lr=1e-3 * (k + 1), ratio=ratio, study="discriminative", epochs=3)
        for k in range(count)
    ]
    trials.append(row(None, pruned=True, study="discriminative", ratio=ratio, epochs=0))
    trials.append(row(0.5, study="uniform", epochs=3))
    page = render_search(trials, summary(trials), SPACE, 0)
    assert page == render_search(trials, summary(trials), SPACE, 0)
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page)
    assert page.count('src="data:image/png') == (1 if count < 4 else 3)
