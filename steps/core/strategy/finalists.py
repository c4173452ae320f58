"""Finalists of the search: its best trials and the control's, repeated over seeds.

A trial that was best of many was also lucky. So the best ones are trained again, each with the same
fresh seeds, and the winner is the one with the least mean validation loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steps.core.strategy.search import DISCRIMINATIVE, UNIFORM, completed, derive_seed
from steps.core.strategy.search_space import SearchSpace
from steps.core.strategy.trials import Rates, Run, Trials
from steps.core.system.errors import TrainingError
from steps.core.tasks import targets
from steps.core.tasks.intervals import LEVEL, mean_interval, t_quantile

MIN_SEEDS = 5  # below which no difference between two ways to train is claimed
COMPARISON = "comparison"
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Finalist:
    """Rates, trained again with several seeds."""

    study: str
    rates: Rates
    unfreeze: int
    runs: list[Run]

    @property
    def val_loss(self) -> float:
        """Mean over the seeds of the least validation loss, in nats."""
        return float(np.mean([run.val_loss for run in self.runs]))

    def row(self) -> dict[str, Any]:
        """Return plain json types."""
        losses = [run.val_loss if np.isfinite(run.val_loss) else None for run in self.runs]
        return {
            "study": self.study,
            "head_lr": self.rates.head_lr,
            "ratio": self.rates.ratio,
            "weight_decay": self.rates.weight_decay,
            "unfreeze": self.unfreeze,
            "val_losses": losses,
            "val_loss": self.val_loss if np.isfinite(self.val_loss) else None,
        }


def train_finalists(
    trials: Trials, found: Mapping[str, list[dict[str, Any]]], space: SearchSpace, seed: int
) -> list[Finalist]:
    """Train the best of every study again; the best finalist comes first.

    Raises:
        TrainingError: No trial came to its end, or no finalist did.
    """
    unfreeze = len(trials.network.stages) - trials.boundary
    finalists = []
    for name, rows in found.items():
        for rates in completed(rows)[: 1 if name == UNIFORM else space.finalists]:
            finalists.append(Finalist(name, rates, unfreeze, repeat(trials, rates, space.repeats, seed)))
    finalists.sort(key=lambda finalist: finalist.val_loss)
    if not finalists or not np.isfinite(finalists[0].val_loss):
        raise TrainingError("all trials were pruned or diverged: lower search_lr_ratio.head_lr_high")
    return finalists


def repeat(
    trials: Trials,
    rates: Rates,
    repeats: int,
    seed: int,
    unfreeze: int | None = None,
    purpose: str = "final",
) -> list[Run]:
    """Train with the same rates and several seeds, the same ones for all rates; each purpose has its own."""
    return [trials.run(rates, derive_seed(seed, f"{purpose}/{k}"), unfreeze) for k in range(repeats)]


def best_of(finalists: Sequence[Finalist], study: str) -> Finalist | None:
    """Return the best finalist of a study."""
    return next((finalist for finalist in finalists if finalist.study == study), None)


def seed_differences(first: Sequence[Run], second: Sequence[Run], labels: Tensor) -> dict[str, Any]:
    """Return the paired differences of two sets of runs with the same seeds, first minus second.

    The mean difference has Student's 95 % interval over the seeds, widened by what the validation samples
    add: both a luckier seed and a luckier sample could have made the difference. With fewer than `MIN_SEEDS`
    runs that came to their end nothing is claimed, and the answer is empty. The runs must not be those by
    which anything was picked: the best of many is lucky with the seeds that made it the best.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a.val_losses and b.val_losses]
    if len(pairs) < MIN_SEEDS:
        return {}
    tables = {
        "loss": np.stack([nll(a, labels) - nll(b, labels) for a, b in pairs]),
        "accuracy": np.stack([correct_share(a, labels) - correct_share(b, labels) for a, b in pairs]),
    }
    return {name: mean_over_seeds(table) for name, table in tables.items()}


def mean_over_seeds(table: NDArray[np.float64]) -> dict[str, float]:
    """Return the mean of differences (seeds, samples) as value, low, high."""
    seeds, samples = table.shape
    variance = table.mean(axis=1).var(ddof=1) / seeds + table.mean(axis=0).var() / max(samples - 1, 1)
    half = t_quantile(seeds, LEVEL) * float(np.sqrt(variance))
    value = float(table.mean())
    return {"value": value, "low": value - half, "high": value + half}


def sample_differences(first: Run, second: Run, labels: Tensor) -> dict[str, Any]:
    """Return the paired difference of two runs over the validation samples, first minus second."""
    pairs = {"loss": nll, "accuracy": correct_share}
    return {
        name: mean_interval(of(first, labels) - of(second, labels), np.arange(len(labels)))
        for name, of in pairs.items()
    }


def nll(run: Run, labels: Tensor) -> NDArray[np.float64]:
    """Return each validation sample's loss in nats."""
    return targets.kind_for(labels).loss(run.val_logits, labels, reduction="none").double().numpy()


def correct_share(run: Run, labels: Tensor) -> NDArray[np.float64]:
    """Return 1 for each validation sample that is answered rightly, 0 for the others, or the share."""
    return targets.kind_for(labels).correct(run.val_logits, labels).double().numpy()


def compare_rates(
    trials: Trials, finalists: Sequence[Finalist], labels: Tensor, repeats: int, seed: int
) -> dict[str, Any] | None:
    """Say whether discriminative rates beat the best uniform rate; None without a control.

    Both are trained again, `repeats` times, with seeds that neither was picked by.
    """
    first, second = best_of(finalists, DISCRIMINATIVE), best_of(finalists, UNIFORM)
    if first is None or second is None:
        return None
    if repeats < MIN_SEEDS:
        return {"verdict": NOT_MEASURED}
    falling, uniform = (
        repeat(trials, one.rates, repeats, seed, purpose=COMPARISON) for one in (first, second)
    )
    found = seed_differences(falling, uniform, labels)
    return {**found, "verdict": loss_verdict(found)}


def loss_verdict(found: Mapping[str, Any]) -> str:
    """Put a difference of losses, first minus second, into `better`, `worse` or `no difference shown`."""
    if not found:
        return NOT_MEASURED
    if found["loss"]["high"] < 0:
        return "better"
    return "worse" if found["loss"]["low"] > 0 else "no difference shown"
