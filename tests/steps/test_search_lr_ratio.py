"""The learning-rate search as a phase: when it runs, and what stands in its place."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from steps.runtime.phase import all_configs
from steps.search_lr_ratio import SearchLrRatio, search_lr_ratio


class OnlyIndex:
    """A cache of which nothing but the index may be read: no training can start from it."""

    def __init__(self, splits: list[str]) -> None:
        self.index_table = pd.DataFrame({"split": splits})
        self.meta: dict[str, Any] = {}


@pytest.fixture
def cfg() -> SearchLrRatio:
    found = all_configs(Path("params.yaml"))["search_lr_ratio"]
    assert isinstance(found, SearchLrRatio)
    return found


def test_a_small_validation_set_gets_the_rates_of_params_yaml_and_the_reason(cfg: SearchLrRatio) -> None:
    cache: Any = OnlyIndex(["train"] * 500 + ["val"] * (cfg.min_validation - 1) + ["test"] * 400)
    found = search_lr_ratio(cache, None, cfg)  # type: ignore[arg-type]
    assert (found.head_lr, found.ratio, found.weight_decay) == (
        cfg.head_lr,
        cfg.ratio,
        cfg.recipe.weight_decay,
    )
    assert found.trials == []
    assert found.soup is None
    reason = str(found.headline()["skipped"])
    assert str(cfg.min_validation) in reason
    assert reason in found.html


def test_asked_for_a_search_starts_on_a_small_set_too(cfg: SearchLrRatio) -> None:
    cache: Any = OnlyIndex(["train", "val"])
    with pytest.raises(KeyError, match="boundary"):
        search_lr_ratio(cache, None, cfg.model_copy(update={"when": "always"}))  # type: ignore[arg-type]
