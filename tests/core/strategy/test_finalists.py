from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from steps.core.backbones.network import Network
from steps.core.strategy.finalists import (
    Finalist,
    compare_rates,
    loss_verdict,
    mean_over_seeds,
    seed_differences,
    train_finalists,
)
from steps.core.strategy.search import derive_seed
from steps.core.strategy.soup import greedy_soup, use_soup_if_better
from steps.core.strategy.trials import Rates, Run, Trials
from steps.core.system.errors import TrainingError
from steps.core.training.loop import Epoch, Trained
from tests.core.strategy.test_search import SPACE, row
from tests.core.toys import RECIPE, Pictures, batches, build, cached, same_state

RATES = Rates(1e-3, 0.5, 0.01)


@dataclass
class Scripted:
    """Trials whose losses are written down by head rate, a number per repeat."""

    losses: dict[float, list[float]]
    boundary: int = 3

    @property
    def network(self) -> Any:
        return build("test_resnet")

    def run(self, rates: Rates, seed: int | None = None, unfreeze: int | None = None) -> Run:
        seeds = self.__dict__.setdefault("seeds", {}).setdefault(rates.head_lr, [])
        seeds.append(seed)
        loss = self.losses[rates.head_lr][len(seeds) - 1]
        return Run(rates, [loss] if np.isfinite(loss) else [], {}, torch.zeros(4, 2))


def held(losses: dict[float, list[float]], **found: list[dict[str, Any]]) -> list[Finalist]:
    return train_finalists(Scripted(losses), found, SPACE, 0)  # type: ignore[arg-type]


def test_the_least_mean_wins_not_the_luckiest_trial() -> None:
    rows = [row(0.1, head_lr=1e-3), row(0.2, head_lr=2e-3), row(0.3, head_lr=3e-3)]
    finalists = held({1e-3: [0.1, 0.9], 2e-3: [0.3, 0.3]}, discriminative=rows, uniform=[])
    assert [finalist.rates.head_lr for finalist in finalists] == [2e-3, 1e-3]  # the third is no finalist


def test_all_finalists_are_repeated_with_the_same_seeds_which_the_search_did_not_use() -> None:
    scripted = Scripted({1e-3: [1.0, 1.0], 2e-3: [2.0, 2.0]})
    found = {"discriminative": [row(0.1, head_lr=1e-3)], "uniform": [row(0.2, head_lr=2e-3)]}
    train_finalists(scripted, found, SPACE, 0)  # type: ignore[arg-type]
    first, second = scripted.__dict__["seeds"].values()
    assert first == second
    assert len(set(first)) == SPACE.repeats
    assert None not in first


def test_a_repeat_that_diverges_never_wins_and_if_all_do_nobody_does() -> None:
    rows = [row(0.1, head_lr=1e-3), row(0.2, head_lr=2e-3)]
    finalists = held({1e-3: [0.0, float("inf")], 2e-3: [0.9, 0.9]}, discriminative=rows)
    assert finalists[0].rates.head_lr == 2e-3
    assert finalists[1].row()["val_losses"] == [0.0, None]
    with pytest.raises(TrainingError, match=r"lower search_lr_ratio\.head_lr_high"):
        held({1e-3: [float("inf")] * 2}, discriminative=rows[:1])
    with pytest.raises(TrainingError, match=r"lower search_lr_ratio\.head_lr_high"):
        held({}, discriminative=[row(0.1, pruned=True)])


def runs_of(logits: list[Tensor]) -> list[Run]:
    return [Run(RATES, [0.0], {}, one) for one in logits]


def test_equal_runs_differ_by_nothing() -> None:
    labels = torch.arange(40) % 3
    logits = [torch.randn(40, 3, generator=torch.Generator().manual_seed(k)) for k in range(5)]
    gap = seed_differences(runs_of(logits), runs_of(logits), labels)
    assert gap["loss"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert loss_verdict(gap) == "no difference shown"


def test_a_clear_difference_is_named_with_its_sign_and_fewer_than_five_seeds_claim_nothing() -> None:
    labels = torch.arange(60) % 3
    good, bad = (scale * torch.nn.functional.one_hot(labels).float() for scale in (5.0, 0.5))
    gap = seed_differences(runs_of([good] * 5), runs_of([bad] * 5), labels)
    assert loss_verdict(gap) == "better"
    assert gap["loss"]["high"] < 0
    assert loss_verdict(seed_differences(runs_of([bad] * 5), runs_of([good] * 5), labels)) == "worse"
    assert loss_verdict(seed_differences(runs_of([bad] * 4), runs_of([good] * 4), labels)) == "not measured"
    assert loss_verdict({}) == "not measured"


def test_without_a_true_difference_one_is_seldom_claimed_however_much_the_seeds_differ() -> None:
    """Seeds that move the loss by 10 %, on the same validation samples; neither way is better."""
    draw = np.random.default_rng(0)
    claimed = 0
    for _ in range(1000):
        sample = draw.normal(0, 0.05, (1, 60))
        table = 0.1 * draw.normal(size=(5, 1)) + sample + draw.normal(0, 0.2, (5, 60))
        found = mean_over_seeds(table)
        claimed += not found["low"] <= 0 <= found["high"]
    assert claimed / 1000 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)


@dataclass
class Seeded(Scripted):
    """Trials that answer better with falling rates, and note which seeds they were asked with."""

    asked: list[int | None] = field(default_factory=list)

    def run(self, rates: Rates, seed: int | None = None, unfreeze: int | None = None) -> Run:
        self.asked.append(seed)
        labels = torch.arange(60) % 3
        scale = 5.0 if rates.ratio < 1 else 0.5
        return Run(rates, [0.1], {}, scale * torch.nn.functional.one_hot(labels).float())


def test_falling_rates_are_compared_with_the_best_uniform_rate_by_fresh_seeds() -> None:
    labels = torch.arange(60) % 3
    finalists = [
        Finalist("discriminative", RATES, 2, runs_of([torch.zeros(60, 3)])),
        Finalist("uniform", replace(RATES, ratio=1.0), 2, runs_of([torch.zeros(60, 3)])),
    ]
    seeded = Seeded({})
    found = compare_rates(seeded, finalists, labels, 5, 0)  # type: ignore[arg-type]
    assert found is not None
    assert found["verdict"] == "better"
    assert len(set(seeded.asked)) == 5
    assert not set(seeded.asked) & {derive_seed(0, f"final/{k}") for k in range(5)}
    assert compare_rates(seeded, finalists[:1], labels, 5, 0) is None  # type: ignore[arg-type]
    assert compare_rates(seeded, finalists, labels, 0, 0) == {"verdict": "not measured"}  # type: ignore[arg-type]


@pytest.fixture
def trials(pictures: Pictures, tmp_path: Path) -> Trials:
    network = build("test_resnet")
    source = cached(pictures, network, 3, tmp_path / "features")
    return Trials(network, 3, batches(source, source.index, 6), RECIPE, 2, tmp_path / "runs")


def labels_of(trials: Trials) -> Tensor:
    return torch.cat([batch.y for batch in trials.batches.deterministic("val")])


def test_a_soup_averages_weights_and_statistics_and_is_kept_only_if_it_gains(trials: Trials) -> None:
    runs = [trials.run(Rates(rate, 0.5, 0.01)) for rate in (3e-3, 5e-3, 8e-3)]
    best = min(runs, key=lambda run: run.val_loss)
    figures, state = greedy_soup(trials, runs, best, labels_of(trials))
    assert figures["candidates"] == 3
    assert figures["val_loss"] <= best.val_loss
    assert (state is not None) is figures["kept"] is (figures["val_loss"] < best.val_loss)
    lucky = replace(best, val_losses=[0.0])
    assert greedy_soup(trials, runs, lucky, labels_of(trials))[1] is None


def test_a_soup_of_opposite_mistakes_beats_both(trials: Trials) -> None:
    own = trials.trained_state(trials.network)
    bent = {name: t for name, t in own.items() if name == "head.weight"}
    runs = []
    for sign in (1, -1):
        state = {**own, "head.weight": bent["head.weight"] + sign * 3.0}
        state["head.weight"][0] += sign * 3.0
        network = trials.with_state(state)
        logits = torch.cat([network(b.x, 3).detach() for b in trials.batches.deterministic("val")])
        loss = float(torch.nn.functional.cross_entropy(logits, labels_of(trials)))
        runs.append(Run(RATES, [loss], state, logits))
    figures, soup = greedy_soup(trials, runs, min(runs, key=lambda r: r.val_loss), labels_of(trials))
    assert figures["members"] == 2
    assert soup is not None
    for name, tensor in soup.items():
        torch.testing.assert_close(tensor, own[name])


def trained(network: Network, loss: float) -> Trained:
    return Trained(network, [], Epoch(1, 1.0, loss, 0.0, 0.0, 1e-3, torch.zeros(1)))


def test_fine_tuning_takes_the_soup_only_where_validation_says_so(trials: Trials) -> None:
    soup = trials.run(RATES).state
    for loss, taken in ((1e9, True), (-1.0, False)):
        network = build("test_resnet")
        before = network.state()
        served, souped = use_soup_if_better(trained(network, loss), soup, trials.batches, "loss")
        assert souped is taken
        assert same_state(network.state(), {**before, **soup} if taken else before)
        assert (served.best.val_loss < loss) is taken
    assert use_soup_if_better(trained(build("test_resnet"), 1.0), None, trials.batches, "loss")[1] is False
