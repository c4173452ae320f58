"""The search for the head's learning rate and the ratio between neighbouring stages.

A ratio of at most 1 is monotone by construction: an earlier stage never learns faster than a later
one. Beside the search runs its control, the same loop with the ratio held at 1 (one rate for all).
"""

import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState
from tqdm import tqdm

from steps.core.batches import Batches
from steps.core.config import Recipe
from steps.core.errors import Diverged, TrainingError
from steps.core.groups import parameter_groups
from steps.core.loop import Epoch, fit
from steps.core.network import Network
from steps.core.space import Space
from steps.core.storage import file_sha256
from steps.core.tasks import Classify

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Trials:
    """Trains with given rates, each time from the same warmed-up network."""

    network: Network
    boundary: int
    batches: Batches
    recipe: Recipe
    epochs: int

    def __call__(self, head_lr: float, ratio: float) -> Iterator[Epoch]:
        """Yield the epochs of one trial."""
        network = copy.deepcopy(self.network)
        network.freeze(self.boundary)
        recipe = self.recipe.model_copy(update={"epochs": self.epochs})
        groups = parameter_groups(network, self.boundary, head_lr, ratio, recipe.weight_decay)
        return fit(network, Classify(recipe), self.batches, recipe, groups)


@dataclass(frozen=True)
class Search:
    """An Optuna study that counts its budget over restarts and gives the same result after each."""

    storage: str
    name: str
    space: Space
    seed: int
    tunes_ratio: bool
    on_trial: Callable[[FrozenTrial], None]

    def run(self, objective: Trials, budget: int) -> list[dict[str, Any]]:
        """Run until `budget` trials are finished; return them in order."""
        study = self.study()
        progress = tqdm(total=budget, desc=self.name, unit="trial", disable=None)
        while (done := len(finished(study))) < budget:
            # A sampler of its own per place in the row: what it proposes depends on the finished
            # trials alone, so a restarted search goes on as if it had never stopped.
            study.sampler = TPESampler(
                seed=derive(self.seed, f"{self.name}/{done}"),
                n_startup_trials=self.space.startup_trials,
            )
            trial = study.ask()
            self.one(study, trial, objective)
            self.on_trial(study.trials[trial.number])
            progress.update(len(finished(study)) - progress.n)
        progress.close()
        return [record(trial) for trial in finished(study)[:budget]]

    def study(self) -> optuna.Study:
        """Open or create the study; trials that a kill left running are marked as failed."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=self.storage,
            study_name=self.name,
            direction="minimize",
            load_if_exists=True,
            pruner=MedianPruner(n_startup_trials=self.space.startup_trials),
        )
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
        return study

    def one(self, study: optuna.Study, trial: Trial, objective: Trials) -> None:
        """Train one trial to its end, or until its median rivals were better."""
        space = self.space
        head_lr = trial.suggest_float("head_lr", space.head_lr_low, space.head_lr_high, log=True)
        ratio = 1.0
        if self.tunes_ratio:
            ratio = trial.suggest_float("ratio", space.ratio_low, space.ratio_high, log=True)
        best = float("inf")
        try:
            for epoch in objective(head_lr, ratio):
                best = min(best, epoch.val_loss)
                trial.report(epoch.val_loss, epoch.epoch)
                if trial.should_prune():
                    study.tell(trial, state=TrialState.PRUNED)
                    return
        except Diverged:  # a rate that is too high is an answer, not an accident
            study.tell(trial, state=TrialState.PRUNED)
            return
        study.tell(trial, best)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count against the budget, in the order in which they were begun."""
    return study.get_trials(deepcopy=False, states=FINISHED)


def record(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial as plain json types, without clock times."""
    return {
        "head_lr": trial.params["head_lr"],
        "ratio": trial.params.get("ratio", 1.0),
        "val_loss": min(trial.intermediate_values.values(), default=None),
        "epochs": len(trial.intermediate_values),
        "pruned": trial.state == TrialState.PRUNED,
    }


def choose(found: Mapping[str, list[dict[str, Any]]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the trial with the least validation loss of all, and the figures of the comparison.

    Raises:
        TrainingError: No trial came to its end.
    """
    best: dict[str, dict[str, Any]] = {}
    for name, trials in found.items():
        if ended := [trial for trial in trials if trial_counts(trial)]:
            best[name] = min(ended, key=lambda trial: trial["val_loss"])
    if not best:
        raise TrainingError("every trial was pruned or diverged: lower search_lr_ratio.head_lr_high")
    winner = min(best.values(), key=lambda trial: trial["val_loss"])
    trials = [trial for rows in found.values() for trial in rows]
    return winner, {
        "trials": len(trials),
        "pruned": sum(trial["pruned"] for trial in trials),
        **{f"{name}_val_loss": trial["val_loss"] for name, trial in best.items()},
    }


def trial_counts(trial: Mapping[str, Any]) -> bool:
    """Say whether a trial came to its end with a loss that is a number."""
    return not trial["pruned"] and math.isfinite(trial["val_loss"])


def study_name(*depends: str) -> str:
    """Return a name that is the same only where everything is that the trials depend on."""
    code = [file_sha256(Path(__file__).with_name(f"{name}.py")) for name in CODE]
    return hashlib.sha256(json.dumps([*depends, code, torch.__version__]).encode()).hexdigest()[:32]


CODE = ("batches", "groups", "loop", "network", "search", "stages", "tasks")


def derive(seed: int, name: str) -> int:
    """Derive a 32-bit seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big")
