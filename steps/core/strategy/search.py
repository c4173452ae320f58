"""The search for the head's learning rate and the ratio between neighbouring stages.

A ratio of at most 1 is monotone by construction: an earlier stage never learns faster than a later
one. Beside the search runs its control, the same loop with the ratio held at 1 (one rate for all).

Several workers may share one storage. Every trial has a slot, its place in the row, and draws from a
sampler that is seeded by the slot: a trial that is repeated after a kill proposes the same rates.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
import torch
from optuna.exceptions import StorageInternalError
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from steps.core.strategy.pruning import BestFractionPruner
from steps.core.strategy.search_space import SearchSpace
from steps.core.strategy.trials import Rates, Trials
from steps.core.system.errors import ArtifactError, Diverged
from steps.core.system.process_owner import is_alive, process_name
from steps.core.system.progress import progress
from steps.core.system.secrets import mask

DISCRIMINATIVE, UNIFORM, HEAD = "discriminative", "uniform", "head"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
OWNER, LAST_SEEN, SLOT = "owner", "seen", "slot"
POLL_SECONDS = 0.5  # seconds between looks at the trials of other workers
CLAIM_SECONDS = 5.0  # seconds within which a worker has put its name on a trial that it has drawn


@dataclass(frozen=True)
class Search:
    """An Optuna study that counts its budget over restarts and gives the same result after each."""

    storage: str
    name: str
    space: SearchSpace
    seed: int
    depth: int
    """Stages that train; their ratios are searched unless this is 0."""
    weight_decay: float
    on_trial: Callable[[str, FrozenTrial], None]

    @property
    def short_name(self) -> str:
        """The name without what makes it unique."""
        return self.name.rpartition("/")[2]

    def run(self, objective: Trials, budget: int) -> list[dict[str, Any]]:
        """Run until `budget` trials are finished, here or elsewhere; return them in order."""
        study = self.study()
        shown = len(finished(study))
        with progress(self.short_name, budget, "trial", done=shown) as advance:
            while len(done := finished(study)) < budget:
                advance(len(done) - shown)
                shown = len(done)
                self.fail_abandoned_trials(study)
                running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
                if len(done) + len(running) >= budget:
                    time.sleep(POLL_SECONDS)
                    continue
                trial = self.start_trial(study)
                self.run_trial(study, trial, objective)
                self.on_trial(self.short_name, study.trials[trial.number])
        return [self.trial_row(trial) for trial in finished(study)[:budget]]

    def study(self) -> optuna.Study:
        """Open or create the study.

        Raises:
            ArtifactError: The storage is no database of studies, or cannot be reached.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # sqlite waits for another worker's lock instead of giving up
        wait = {"connect_args": {"timeout": 60}} if self.storage.startswith("sqlite") else {}
        try:
            storage = RDBStorage(self.storage, engine_kwargs=wait)
        except (SQLAlchemyError, StorageInternalError, ImportError) as error:
            raise ArtifactError(
                f"the trials in {mask(self.storage)} cannot be opened ({mask(str(error))[:200]}): correct "
                "HEADSTART_STUDY_STORAGE where it is set, else delete the file; the trials are then run again"
            ) from None
        return optuna.create_study(
            storage=storage,
            study_name=self.name,
            direction="minimize",
            load_if_exists=True,
            pruner=BestFractionPruner(self.space.keep_fraction, self.space.prune_after),
        )

    def fail_abandoned_trials(self, study: optuna.Study) -> None:
        """Mark as failed what a killed worker left running; another trial takes its slot."""
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not is_running(trial, self.space.worker_timeout):
                study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def start_trial(self, study: optuna.Study) -> Trial:
        """Open a trial in the first free slot, with a sampler of the slot's own."""
        # Enqueued with its owner, a trial is never seen without one, whenever the kill comes.
        study.enqueue_trial({}, user_attrs={OWNER: process_name(), LAST_SEEN: time.time()})
        trial = study.ask()
        trial.set_user_attr(OWNER, process_name())
        live = [t for t in study.get_trials(deepcopy=False) if t.state in (*FINISHED, TrialState.RUNNING)]
        taken = {t.user_attrs[SLOT] for t in live if SLOT in t.user_attrs}
        ahead = sum(SLOT not in t.user_attrs and t.number < trial.number for t in live)
        free = [slot for slot in range(len(live) + 1) if slot not in taken]
        trial.set_user_attr(SLOT, free[ahead])
        study.sampler = TPESampler(
            seed=derive_seed(self.seed, f"{self.short_name}/{free[ahead]}"),
            n_startup_trials=self.space.startup_trials,
        )
        return trial

    def run_trial(self, study: optuna.Study, trial: Trial, objective: Trials) -> None:
        """Train one trial to its end, or until too many rivals were better."""
        best = float("inf")
        try:
            for epoch in objective(self.propose(trial)):
                best = min(best, epoch.val_loss)
                trial.report(epoch.val_loss, epoch.epoch - 1)
                trial.set_user_attr(LAST_SEEN, time.time())
                if epoch.epoch < objective.epochs and trial.should_prune():
                    study.tell(trial, state=TrialState.PRUNED)
                    return
        except Diverged:  # a rate that is too high is an answer, not an accident
            study.tell(trial, state=TrialState.PRUNED)
            return
        study.tell(trial, best)

    def propose(self, trial: Trial) -> Rates:
        """Ask the sampler for rates."""
        space = self.space
        trial.suggest_float("head_lr", space.head_lr_low, space.head_lr_high, log=True)
        names = [f"ratio_{i + 1}" for i in range(self.depth)] if space.per_boundary else ["ratio"]
        for name in names if self.depth else []:
            trial.suggest_float(name, space.ratio_low, space.ratio_high, log=True)
        if space.weight_decay:
            trial.suggest_float("weight_decay", *space.weight_decay, log=True)
        return rates_of(trial.params, self.weight_decay)

    def trial_row(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return a trial as plain json types, without clock times."""
        rates = rates_of(trial.params, self.weight_decay)
        return {
            "head_lr": rates.head_lr,
            "ratio": rates.ratio,
            "weight_decay": rates.weight_decay,
            "val_loss": min(trial.intermediate_values.values(), default=None),
            "epochs": len(trial.intermediate_values),
            "pruned": trial.state == TrialState.PRUNED,
        }


@dataclass(frozen=True)
class Studies:
    """The search and its control; where no stage trains there is no ratio and no control."""

    storage: str
    key: str
    """What distinguishes these studies from all others in the storage."""
    space: SearchSpace
    seed: int
    on_trial: Callable[[str, FrozenTrial], None]

    def run(self, trials: Trials) -> dict[str, list[dict[str, Any]]]:
        """Return the finished trials by study."""
        depth = len(trials.network.stages) - trials.boundary
        plan = {HEAD: (0, self.space.trials)}
        if depth:
            plan = {
                DISCRIMINATIVE: (depth, self.space.trials),
                UNIFORM: (0, self.space.uniform_trials),
            }
        found = {}
        for name, (searched, budget) in plan.items():
            decay = trials.recipe.weight_decay
            search = Search(
                self.storage, f"{self.key}/{name}", self.space, self.seed, searched, decay, self.on_trial
            )
            found[name] = search.run(trials, budget)
        return found


def rates_of(params: Mapping[str, float], weight_decay: float) -> Rates:
    """Return what a trial's params mean; without any ratio it is 1, one rate for all."""
    ratios = [params[name] for name in sorted(params) if name.startswith("ratio_")]
    return Rates(
        params["head_lr"],
        ratios or params.get("ratio", 1.0),
        params.get("weight_decay", weight_decay),
    )


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count against the budget, by slot."""
    trials = study.get_trials(deepcopy=False, states=FINISHED)
    return sorted(trials, key=lambda trial: (trial.user_attrs[SLOT], trial.number))


def completed(rows: Sequence[Mapping[str, Any]]) -> list[Rates]:
    """Return the rates of the trials that came to their end with a number, the best first."""
    ended = [row for row in rows if not row["pruned"] and math.isfinite(row["val_loss"])]
    ended.sort(key=lambda row: row["val_loss"])
    return [Rates(row["head_lr"], row["ratio"], row["weight_decay"]) for row in ended]


def is_running(trial: FrozenTrial, timeout: float) -> bool:
    """Say whether somebody else still works on a running trial; elsewhere only silence can tell."""
    name = trial.user_attrs[OWNER]
    known = is_alive(name)
    silence = abs(time.time() - trial.user_attrs[LAST_SEEN])  # a clock set back must not make it endless
    if known is None:
        return bool(silence < timeout)
    if name == process_name():  # drawn a moment ago by a worker that has not claimed it yet
        return SLOT not in trial.user_attrs and bool(silence < CLAIM_SECONDS)
    return known


def study_name(*depends: str) -> str:
    """Return a name that is the same only where everything is that the trials depend on."""
    return hashlib.sha256(json.dumps([*depends, torch.__version__]).encode()).hexdigest()[:32]


def derive_seed(seed: int, name: str) -> int:
    """Derive a 32-bit seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big")
