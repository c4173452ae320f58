"""The learning-rate search as a phase: when it runs, and what stands in its place."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from steps.core.backbones.network import Network
from steps.core.strategy.usual_rates import ATTENTION, CONVOLUTIONS, UsualRates
from steps.runtime.phase import all_configs
from steps.search_lr_ratio import SearchLrRatio, search_lr_ratio
from tests.core.toys import build


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


class Warm:
    """A warmed-up head, of which only the network is asked for."""

    def __init__(self, name: str) -> None:
        self.name = name

    def network(self) -> Network:
        return build(self.name)


@pytest.mark.parametrize(("name", "rates"), [("test_resnet", CONVOLUTIONS), ("test_convnext", ATTENTION)])
def test_rates_that_are_auto_follow_from_the_kind_of_network(
    cfg: SearchLrRatio, name: str, rates: UsualRates
) -> None:
    cache: Any = OnlyIndex(["train", "val"])
    found = search_lr_ratio(cache, Warm(name), cfg)  # type: ignore[arg-type]
    assert (found.head_lr, found.ratio) == rates
    space = cfg.resolved(rates.head_lr)
    assert space.head_lr_low < rates.head_lr < space.head_lr_high


def test_a_small_validation_set_gets_the_rates_of_params_yaml_and_the_reason(cfg: SearchLrRatio) -> None:
    cache: Any = OnlyIndex(["train"] * 500 + ["val"] * (cfg.min_validation - 1) + ["test"] * 400)
    own = cfg.model_copy(update={"head_lr": 2e-3, "ratio": 0.7})
    found = search_lr_ratio(cache, Warm("test_resnet"), own)  # type: ignore[arg-type]
    assert (found.head_lr, found.ratio, found.weight_decay) == (2e-3, 0.7, cfg.recipe.weight_decay)
    assert found.trials == []
    assert found.soup is None
    reason = str(found.headline()["skipped"])
    assert str(cfg.min_validation) in reason
    assert reason in found.html


def test_asked_for_a_search_starts_on_a_small_set_too(cfg: SearchLrRatio) -> None:
    cache: Any = OnlyIndex(["train", "val"])
    with pytest.raises(KeyError, match="boundary"):
        search_lr_ratio(cache, None, cfg.model_copy(update={"when": "always"}))  # type: ignore[arg-type]
