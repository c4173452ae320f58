import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import FrozenTrial, TrialState

from steps.core.backbones.network import Network
from steps.core.features.batches import Batches
from steps.core.strategy.search import (
    LAST_SEEN,
    OWNER,
    Search,
    Studies,
    completed,
    derive_seed,
    finished,
    study_name,
)
from steps.core.strategy.search_space import SearchSpace
from steps.core.strategy.trials import Rates, Trials
from steps.core.system.errors import Diverged
from steps.core.system.process_owner import boot_id, pid_namespace, process_name, process_name_of
from steps.core.training.loop import Epoch
from tests.core.toys import RECIPE, Pictures, batches, build, cached, same_state

SPACE = SearchSpace(
    trials=5,
    uniform_trials=2,
    startup_trials=2,
    head_lr_low=1e-4,
    head_lr_high=3e-2,
    ratio_low=0.1,
    ratio_high=1.0,
    per_boundary=False,
    weight_decay=None,
    prune_after=1,
    keep_fraction=0.5,
    finalists=2,
    repeats=2,
    comparison_repeats=0,
    worker_timeout=60.0,
)
DECAY = 0.01


@pytest.fixture(scope="module")
def network() -> Network:
    return build("test_resnet")


@pytest.fixture(scope="module")
def found(pictures: Pictures, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Batches:
    source = cached(pictures, network, 4, tmp_path_factory.mktemp("features"))
    return batches(source, source.index, 6)


@pytest.fixture(scope="module")
def trials(network: Network, found: Batches, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    return Trials(network, 4, found, RECIPE, 3, tmp_path_factory.mktemp("runs"))


def search(
    folder: Path,
    name: str = "discriminative",
    seed: int = 0,
    depth: int = 1,
    told: Callable[[str, FrozenTrial], None] = lambda study, trial: None,
    space: SearchSpace = SPACE,
) -> Search:
    return Search(f"sqlite:///{folder / 'study.db'}", name, space, seed, depth, DECAY, told)


def all_trials(of: Search) -> list[FrozenTrial]:
    return optuna.load_study(study_name=of.name, storage=of.storage).get_trials()


@dataclass
class Killed:
    """Trains like the trials, but the process dies at a given epoch of all."""

    trials: Trials
    epochs_to_live: int
    seen: list[Rates] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        return self.trials.epochs

    def __call__(self, rates: Rates) -> Iterator[Epoch]:
        self.seen.append(rates)
        for epoch in self.trials(rates):
            if self.epochs_to_live == 0:
                raise KeyboardInterrupt
            self.epochs_to_live -= 1
            yield epoch


@dataclass
class Objective:
    """A made-up training."""

    train: Callable[[Rates], Iterator[Epoch]]
    epochs: int = 3

    def __call__(self, rates: Rates) -> Iterator[Epoch]:
        return self.train(rates)


def test_a_search_gives_as_many_trials_as_its_budget_and_tells_each_of_them(
    trials: Trials, tmp_path: Path
) -> None:
    told: list[FrozenTrial] = []
    rows = search(tmp_path, told=lambda study, trial: told.append(trial)).run(trials, 4)
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
    assert search(tmp_path, told=lambda study, trial: told.append(trial)).run(trials, 5) == later
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
    assert (rows[1]["head_lr"], rows[1]["ratio"]) == (dying.seen[1].head_lr, dying.seen[1].ratio)


def test_no_rate_leaves_its_range_and_no_ratio_is_above_one(trials: Trials, tmp_path: Path) -> None:
    rows = search(tmp_path).run(trials, 6)
    assert all(SPACE.ratio_low <= row["ratio"] <= SPACE.ratio_high <= 1 for row in rows)
    assert all(SPACE.head_lr_low <= row["head_lr"] <= SPACE.head_lr_high for row in rows)
    assert len({row["ratio"] for row in rows}) == 6


def test_the_control_holds_the_ratio_at_one(trials: Trials, tmp_path: Path) -> None:
    rows = search(tmp_path, "uniform", depth=0).run(trials, 3)
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
    runs = [list(trials(Rates(1e-2, 0.5, DECAY))) for _ in range(2)]
    assert runs[0] == runs[1]
    assert list(trials(Rates(1e-2, 0.1, DECAY))) != runs[0]
    assert same_state(network.state(), before)
    assert len(runs[0]) == 3


def test_a_trial_s_loss_is_that_of_its_best_epoch(trials: Trials, tmp_path: Path) -> None:
    (row,) = search(tmp_path).run(trials, 1)
    epochs = list(trials(Rates(row["head_lr"], row["ratio"], DECAY)))
    assert row["val_loss"] == min(epoch.val_loss for epoch in epochs)
    assert row["epochs"] == 3
    assert row["pruned"] is False


def test_a_trial_that_diverges_counts_and_is_marked_as_pruned(trials: Trials, tmp_path: Path) -> None:
    def diverging(rates: Rates) -> Iterator[Epoch]:
        yield next(iter(trials(rates)))
        raise Diverged("the loss is not finite")

    rows = search(tmp_path).run(Objective(diverging), 2)  # type: ignore[arg-type]
    assert [row["pruned"] for row in rows] == [True, True]
    assert len(all_trials(search(tmp_path))) == 2


@pytest.mark.parametrize("prune_after", [1, 2, 3])
def test_a_hopeless_trial_is_pruned_before_its_end_but_not_too_early(
    tmp_path: Path, prune_after: int
) -> None:
    calls = 0

    def worse(rates: Rates) -> Iterator[Epoch]:
        nonlocal calls
        calls += 1
        for epoch in (1, 2, 3):
            yield Epoch(epoch, 1.0, float(calls), 0.5, 0.5, rates.head_lr, torch.zeros(1))

    space = SPACE.model_copy(update={"prune_after": prune_after})
    rows = search(tmp_path, space=space).run(Objective(worse), 5)  # type: ignore[arg-type]
    assert [row["pruned"] for row in rows] == [False, *[prune_after < 3] * 4]
    assert all(row["epochs"] == prune_after for row in rows[1:])


@pytest.mark.parametrize(
    ("keep_fraction", "epochs"),
    [
        (1.0, [3, 3, 3, 3, 3, 3]),
        (0.7, [3, 1, 2, 3, 3, 3]),  # of 2, 3, 4, 5, 6 trials 1, 2, 2, 3, 4 may go on
        (0.34, [3, 1, 1, 1, 3, 2]),
        (0.1, [3, 1, 1, 1, 3, 1]),  # only the best so far
    ],
)
def test_keep_is_the_share_of_all_trials_that_one_must_be_among(
    tmp_path: Path, keep_fraction: float, epochs: list[int]
) -> None:
    losses = iter([1.0, 5.0, 3.0, 2.0, 0.5, 0.7])

    def given(rates: Rates) -> Iterator[Epoch]:
        loss = next(losses)
        for epoch in (1, 2, 3):
            yield Epoch(epoch, 1.0, loss, 0.5, 0.5, rates.head_lr, torch.zeros(1))

    space = SPACE.model_copy(update={"keep_fraction": keep_fraction})
    rows = search(tmp_path, space=space).run(Objective(given), 6)  # type: ignore[arg-type]
    assert [row["epochs"] for row in rows] == epochs
    assert [row["pruned"] for row in rows] == [count < 3 for count in epochs]


def test_a_trial_is_judged_by_its_least_loss_so_far_as_it_is_in_the_end(tmp_path: Path) -> None:
    curves = iter([[1.0, 0.9, 1.2], [0.8, 2.0, 2.0], [0.85, 0.7, 2.0]])

    def given(rates: Rates) -> Iterator[Epoch]:
        for epoch, loss in enumerate(next(curves), 1):
            yield Epoch(epoch, 1.0, loss, 0.5, 0.5, rates.head_lr, torch.zeros(1))

    space = SPACE.model_copy(update={"keep_fraction": 0.1})
    rows = search(tmp_path, space=space).run(Objective(given), 3)  # type: ignore[arg-type]
    assert [row["epochs"] for row in rows] == [3, 3, 1], "the best so far goes on, however its last epoch was"


def row(loss: float | None, pruned: bool = False, **others: Any) -> dict[str, Any]:
    facts = {"head_lr": 1e-3, "ratio": 1.0, "weight_decay": DECAY, "val_loss": loss, "pruned": pruned}
    return {**facts, **others}


def test_completed_trials_come_the_best_first_and_neither_pruned_nor_without_a_number() -> None:
    nan = float("nan")
    rows = [row(0.4, ratio=0.4), row(0.1, pruned=True), row(0.3, ratio=0.5), row(nan), row(None, pruned=True)]
    assert completed(rows) == [Rates(1e-3, 0.5, DECAY), Rates(1e-3, 0.4, DECAY)]


def test_a_ratio_of_its_own_for_every_boundary_and_a_weight_decay_are_searched(
    network: Network, pictures: Pictures, tmp_path: Path
) -> None:
    source = cached(pictures, network, 3, tmp_path / "features")
    objective = Trials(network, 3, batches(source, source.index, 6), RECIPE, 1, tmp_path / "runs")
    space = SPACE.model_copy(update={"per_boundary": True, "weight_decay": [1e-4, 1e-1]})
    rows = search(tmp_path, depth=2, space=space).run(objective, 3)
    ratios = [row["ratio"] for row in rows]
    assert all(len(ratio) == 2 and ratio[0] != ratio[1] for ratio in ratios)
    assert all(0.1 <= value <= 1 for ratio in ratios for value in ratio)
    decays = {row["weight_decay"] for row in rows}
    assert len(decays) == 3
    assert all(1e-4 <= decay <= 1e-1 for decay in decays)


def leave_running(of: Search, name: str, seen: float) -> None:
    """What a worker leaves behind that has just begun a trial, and is called `name`."""
    of.start_trial(of.study()).set_user_attr(OWNER, name)
    trial = of.study().get_trials(deepcopy=False)[-1]
    study = of.study()
    study._storage.set_trial_user_attr(trial._trial_id, LAST_SEEN, seen)


@pytest.mark.parametrize(
    ("name", "silent", "dead"),
    [
        ("elsewhere boot 1 10", 0.0, False),
        ("elsewhere boot 1 10", 120.0, True),
        ("elsewhere boot 1 10", -120.0, True),  # seen in the future: a clock was set back
        (f"{pid_namespace()} {boot_id()} 1 999999", 0.0, True),  # another process has the number now
        (f"{pid_namespace()} before 1 10", 0.0, True),  # the machine was started anew
        (f"{pid_namespace()} {boot_id()} 99999999 10", 0.0, True),
    ],
)
def test_a_dead_worker_s_trial_is_released_and_a_living_one_s_is_left_alone(
    tmp_path: Path, name: str, silent: float, dead: bool
) -> None:
    of = search(tmp_path)
    leave_running(of, name, time.time() - silent)
    of.fail_abandoned_trials(of.study())
    (trial,) = all_trials(of)
    assert trial.state == (TrialState.FAIL if dead else TrialState.RUNNING)


@pytest.mark.parametrize(("silent", "state"), [(0.0, TrialState.RUNNING), (60.0, TrialState.FAIL)])
def test_a_trial_under_this_worker_s_name_may_have_been_drawn_by_another_a_moment_ago(
    tmp_path: Path, silent: float, state: TrialState
) -> None:
    of = search(tmp_path)
    study = of.study()
    study.enqueue_trial({}, user_attrs={OWNER: process_name(), LAST_SEEN: time.time() - silent})
    study.ask()
    of.fail_abandoned_trials(study)
    assert [trial.state for trial in all_trials(of)] == [state]


def test_another_process_that_lives_on_this_machine_keeps_its_trial(tmp_path: Path) -> None:
    of = search(tmp_path)
    other = subprocess.Popen(["sleep", "60"])
    try:
        leave_running(of, process_name_of(other.pid), 0.0)
        of.fail_abandoned_trials(of.study())
        assert [trial.state for trial in all_trials(of)] == [TrialState.RUNNING]
    finally:
        other.kill()
        other.wait()
    of.fail_abandoned_trials(of.study())
    assert [trial.state for trial in all_trials(of)] == [TrialState.FAIL]


WORKER = """
import sys
from pathlib import Path
from steps.core.training.loop import Epoch
from tests.core.strategy.test_search import Objective, search
import time, torch
def slow(rates):
    for epoch in (1, 2, 3):
        time.sleep(0.05)
        yield Epoch(epoch, 1.0, rates.head_lr, 0.5, 0.5, rates.head_lr, torch.zeros(1))
of = search(Path(sys.argv[1]), told=lambda study, trial: print("told", trial.number, flush=True))
print(of.run(Objective(slow), 8))
"""


def test_two_workers_on_one_storage_share_the_budget_and_see_the_same_trials(tmp_path: Path) -> None:
    search(tmp_path).study()
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [worker.communicate(timeout=120)[0].splitlines() for worker in workers]
    assert said[0][-1] == said[1][-1]
    assert all(len(lines) > 1 for lines in said)  # both worked
    assert 8 <= sum(len(lines) - 1 for lines in said) <= 9  # two may begin the last one at once
    rates = [trial.params["head_lr"] for trial in all_trials(search(tmp_path))]
    assert len(set(rates)) == len(rates)


def test_the_control_is_left_out_where_no_stage_trains(
    network: Network, pictures: Pictures, tmp_path: Path
) -> None:
    source = cached(pictures, network, 5, tmp_path / "features")
    objective = Trials(network, 5, batches(source, source.index, 6), RECIPE, 1, tmp_path / "runs")
    studies = Studies(f"sqlite:///{tmp_path}/study.db", "key", SPACE, 0, lambda study, trial: None)
    found = studies.run(objective)
    assert {name: len(rows) for name, rows in found.items()} == {"head": 5}


def test_a_study_s_name_changes_with_everything_that_it_is_made_from() -> None:
    assert study_name("a", "b") == study_name("a", "b")
    assert len({study_name("a", "b"), study_name("a", "c"), study_name("ab"), study_name("b", "a")}) == 4


def test_seeds_are_derived_as_32_bits_of_their_own() -> None:
    seeds = {derive_seed(seed, f"{name}/{n}") for seed in range(3) for name in "ab" for n in range(50)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_finished_trials_come_in_the_order_in_which_they_were_begun(trials: Trials, tmp_path: Path) -> None:
    of = search(tmp_path)
    rows = of.run(trials, 3)
    study = of.study()
    assert [trial.params["head_lr"] for trial in finished(study)] == [row["head_lr"] for row in rows]
