from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from steps.core.batches import Batches
from steps.core.errors import Diverged, TrainingError
from steps.core.loop import Epoch
from steps.core.network import Network
from steps.core.search import Search, Trials, choose, derive, finished, study_name
from steps.core.space import Space

from .toys import RECIPE, Pictures, batches, build, cached, same_state

SPACE = Space(
    trials=5,
    uniform_trials=2,
    startup_trials=2,
    head_lr_low=1e-4,
    head_lr_high=3e-2,
    ratio_low=0.1,
    ratio_high=1.0,
)


@pytest.fixture(scope="module")
def network() -> Network:
    return build("test_resnet")


@pytest.fixture(scope="module")
def found(pictures: Pictures, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Batches:
    source = cached(pictures, network, 4, tmp_path_factory.mktemp("features"))
    return batches(source, source.index, 6)


@pytest.fixture(scope="module")
def trials(network: Network, found: Batches) -> Trials:
    return Trials(network, 4, found, RECIPE, 3)


def search(
    folder: Path,
    name: str = "discriminative",
    seed: int = 0,
    tunes_ratio: bool = True,
    told: Callable[[FrozenTrial], None] = lambda trial: None,
) -> Search:
    return Search(f"sqlite:///{folder / 'study.db'}", name, SPACE, seed, tunes_ratio, told)


def all_trials(of: Search) -> list[FrozenTrial]:
    return optuna.load_study(study_name=of.name, storage=of.storage).get_trials()


@dataclass
class Killed:
    """Trains like the trials, but the process dies at a given epoch of all."""

    trials: Trials
    epochs_to_live: int
    seen: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, head_lr: float, ratio: float) -> Iterator[Epoch]:
        self.seen.append((head_lr, ratio))
        for epoch in self.trials(head_lr, ratio):
            if self.epochs_to_live == 0:
                raise KeyboardInterrupt
            self.epochs_to_live -= 1
            yield epoch


def test_a_search_gives_as_many_trials_as_its_budget_and_tells_each_of_them(
    trials: Trials, tmp_path: Path
) -> None:
    told: list[FrozenTrial] = []
    rows = search(tmp_path, told=told.append).run(trials, 4)
    assert len(rows) == len(told) == 4
    assert [trial.params["head_lr"] for trial in told] == [row["head_lr"] for row in rows]
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in told)


def test_the_budget_is_counted_over_restarts(trials: Trials, tmp_path: Path) -> None:
    first = search(tmp_path).run(trials, 3)
    later = search(tmp_path).run(trials, 5)
    assert (len(first), len(later)) == (3, 5)
    assert later[:3] == first
    assert len(all_trials(search(tmp_path))) == 5
    told: list[FrozenTrial] = []
    assert search(tmp_path, told=told.append).run(trials, 5) == later
    assert not told


def test_a_smaller_budget_gives_the_first_trials_of_a_larger_one(trials: Trials, tmp_path: Path) -> None:
    more = search(tmp_path).run(trials, 4)
    assert search(tmp_path).run(trials, 2) == more[:2]


@pytest.fixture(scope="module")
def undisturbed(trials: Trials, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return search(tmp_path_factory.mktemp("whole")).run(trials, 5)


@pytest.mark.parametrize("epochs_to_live", [1, 5, 9])
def test_a_search_that_was_killed_and_goes_on_gives_what_an_undisturbed_one_gives(
    trials: Trials, undisturbed: list[dict[str, Any]], tmp_path: Path, epochs_to_live: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path).run(Killed(trials, epochs_to_live), 5)  # type: ignore[arg-type]
    assert search(tmp_path).run(trials, 5) == undisturbed


def test_a_trial_that_was_left_running_is_failed_and_replaced(trials: Trials, tmp_path: Path) -> None:
    dying = Killed(trials, 4)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path).run(dying, 5)  # type: ignore[arg-type]
    states = [trial.state for trial in all_trials(search(tmp_path))]
    assert states[-1] == TrialState.RUNNING
    rows = search(tmp_path).run(trials, 3)
    after = all_trials(search(tmp_path))
    assert [trial.state for trial in after].count(TrialState.FAIL) == 1
    assert not any(trial.state == TrialState.RUNNING for trial in after)
    assert len(after) == 4
    assert len(rows) == 3
    assert (rows[1]["head_lr"], rows[1]["ratio"]) == dying.seen[1]


def test_no_rate_leaves_its_range_and_no_ratio_is_above_one(trials: Trials, tmp_path: Path) -> None:
    rows = search(tmp_path).run(trials, 6)
    assert all(SPACE.ratio_low <= row["ratio"] <= SPACE.ratio_high <= 1 for row in rows)
    assert all(SPACE.head_lr_low <= row["head_lr"] <= SPACE.head_lr_high for row in rows)
    assert len({row["ratio"] for row in rows}) == 6


def test_the_control_holds_the_ratio_at_one(trials: Trials, tmp_path: Path) -> None:
    rows = search(tmp_path, "uniform", tunes_ratio=False).run(trials, 3)
    assert [row["ratio"] for row in rows] == [1.0] * 3
    assert len({row["head_lr"] for row in rows}) == 3


def test_another_seed_or_name_proposes_other_rates(trials: Trials, tmp_path: Path) -> None:
    firsts = set()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        firsts.add(search(tmp_path, name, seed).run(trials, 1)[0]["head_lr"])
    assert len(firsts) == 3


def test_every_trial_starts_from_the_same_network_and_leaves_it_alone(
    trials: Trials, network: Network
) -> None:
    before = network.state()
    runs = [list(trials(1e-2, 0.5)) for _ in range(2)]
    assert runs[0] == runs[1]
    assert list(trials(1e-2, 0.1)) != runs[0]
    assert same_state(network.state(), before)
    assert len(runs[0]) == 3


def test_a_trial_s_loss_is_that_of_its_best_epoch(trials: Trials, tmp_path: Path) -> None:
    (row,) = search(tmp_path).run(trials, 1)
    epochs = list(trials(row["head_lr"], row["ratio"]))
    assert row["val_loss"] == min(epoch.val_loss for epoch in epochs)
    assert row["epochs"] == 3
    assert row["pruned"] is False


def test_a_trial_that_diverges_counts_and_is_marked_as_pruned(trials: Trials, tmp_path: Path) -> None:
    def diverging(head_lr: float, ratio: float) -> Iterator[Epoch]:
        yield next(iter(trials(head_lr, ratio)))
        raise Diverged("the loss is not finite")

    rows = search(tmp_path).run(diverging, 2)  # type: ignore[arg-type]
    assert [row["pruned"] for row in rows] == [True, True]
    assert len(all_trials(search(tmp_path))) == 2


def test_a_hopeless_trial_is_pruned_before_its_end(tmp_path: Path) -> None:
    calls = 0

    def worse(head_lr: float, ratio: float) -> Iterator[Epoch]:
        nonlocal calls
        calls += 1
        for epoch in (1, 2, 3):
            yield Epoch(epoch, 1.0, float(calls), 0.5, head_lr)

    rows = search(tmp_path).run(worse, 5)  # type: ignore[arg-type]
    assert [row["pruned"] for row in rows] == [False, False, True, True, True]
    assert all(row["epochs"] == 1 for row in rows[2:])


def row(loss: float | None, pruned: bool = False, **others: Any) -> dict[str, Any]:
    return {"head_lr": 1e-3, "ratio": 1.0, "val_loss": loss, "epochs": 3, "pruned": pruned, **others}


def test_the_choice_falls_on_the_least_loss_of_all_that_came_to_their_end() -> None:
    best = row(0.3, ratio=0.5)
    found = {"discriminative": [row(0.1, pruned=True), row(0.4), best], "uniform": [row(0.35)]}
    winner, summary = choose(found)
    assert winner is best
    assert summary == {
        "trials": 4,
        "pruned": 1,
        "discriminative_val_loss": 0.3,
        "uniform_val_loss": 0.35,
    }


def test_the_control_wins_where_it_is_better() -> None:
    winner, _ = choose({"discriminative": [row(0.4, ratio=0.5)], "uniform": [row(0.3)]})
    assert winner["ratio"] == 1.0


def test_a_pruned_trial_is_never_chosen_and_without_any_other_there_is_no_choice() -> None:
    winner, summary = choose({"discriminative": [row(0.1, pruned=True)], "uniform": [row(0.9)]})
    assert winner["val_loss"] == 0.9
    assert "discriminative_val_loss" not in summary
    with pytest.raises(TrainingError, match=r"every trial was pruned.*lower search_lr_ratio\.head_lr_high"):
        choose({"discriminative": [row(0.1, pruned=True), row(None, pruned=True)], "uniform": []})


def test_a_loss_that_is_not_a_number_never_wins() -> None:
    winner, _ = choose({"discriminative": [row(float("nan")), row(0.4)], "uniform": [row(0.5)]})
    assert winner["val_loss"] == 0.4


def test_a_study_s_name_changes_with_everything_that_it_is_made_from() -> None:
    assert study_name("a", "b") == study_name("a", "b")
    assert len({study_name("a", "b"), study_name("a", "c"), study_name("ab"), study_name("b", "a")}) == 4


def test_seeds_are_derived_as_32_bits_of_their_own() -> None:
    seeds = {derive(seed, f"{name}/{n}") for seed in range(3) for name in "ab" for n in range(50)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_finished_trials_come_in_the_order_in_which_they_were_begun(trials: Trials, tmp_path: Path) -> None:
    of = search(tmp_path)
    rows = of.run(trials, 3)
    study = of.study()
    assert [trial.params["head_lr"] for trial in finished(study)] == [row["head_lr"] for row in rows]
