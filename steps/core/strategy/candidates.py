"""Which of several models is taken: the best on samples new to it and, among equals, the cheaper one.

Two models count as equal where neither the main metric nor the log loss differs by more than one standard
error of the paired difference (the one-standard-error rule of Breiman et al. 1984, "Classification and
regression trees"). The log loss tells models apart that few samples' accuracies cannot. Of equals that cost
the same, a head on features as they are is taken before what was trained longer: validation, on which that
training was stopped at its best, flatters it.
Cost is counted in multiplications of one sample, not timed: the same on every machine, in every run.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from steps.core.backbones.network import Network
from steps.core.modalities.parts import Preprocessing
from steps.core.tasks.predictions import Predictions
from steps.core.tasks.resampling import mean_variance, resamples

AUTO = "auto"
UNTRAINED = (
    "warm_head"  # a head on features as they are: its epoch was not chosen on validation, nor its rates
)


@dataclass(frozen=True)
class Cost:
    """What one answer takes."""

    multiplications: int
    """Of matrix products, convolutions and attention, for one sample."""
    parameters: int


@dataclass(frozen=True)
class CandidateRow:
    """One model of the run on validation."""

    model: str
    value: float
    """The main metric."""
    log_loss: float
    """Nats per sample, calibrated."""
    behind: float
    """The best model's metric minus this one's."""
    standard_error: float
    """Of that difference, paired."""
    loss_behind: float
    """This one's log loss minus that of the best model."""
    loss_standard_error: float
    equal: bool
    multiplications: int
    parameters: int


def cost_of(network: Network, preprocessing: Preprocessing) -> Cost:
    """Count a network's multiplications, each with its addition two FLOPs, and parameters."""
    x = preprocessing.batch([preprocessing.example()], torch.device("cpu"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval().cpu()(x)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(counter.get_total_flops() // 2, parameters)


def costs_by_stage(network: Network, preprocessing: Preprocessing) -> list[Cost]:
    """Return the cost of a network's first 1, 2, ... stages, without a head."""
    x = preprocessing.batch([preprocessing.example()], torch.device("cpu"))
    multiplications = parameters = 0
    found = []
    for stage in network.eval().cpu().stages:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            x = stage(x)
        multiplications += counter.get_total_flops() // 2
        parameters += sum(parameter.numel() for parameter in stage.parameters())
        found.append(Cost(multiplications, parameters))
    return found


def choose_candidate(
    predictions: Mapping[str, Predictions],
    costs: Mapping[str, Cost],
    wanted: str,
    same_cost: float,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Return the candidate, the reason, and a row for every model.

    Args:
        predictions: Of every model, on the same validation samples.
        costs: Of every model.
        wanted: A model's name, or `auto`.
        same_cost: Relative difference of multiplications up to which two models cost the same.
        draws: Bootstrap resamples behind each standard error.
        seed: Of the resamples.

    Returns:
        `chosen`, `reason` (a sentence), `metric`, `samples`, `rows` (see `CandidateRow`).
    """
    rows = compare(predictions, costs, draws, seed)
    best = cheapest_of_equals(rows, same_cost, UNTRAINED)
    metric = next(iter(predictions.values())).main
    samples = len(next(iter(predictions.values())).labels)
    reason = reason_of(best, rows, metric, samples)
    if wanted not in (AUTO, best.model):
        reason = f"promote.candidate says so; `{AUTO}` would take {named(best.model)}: {reason}"
    elif wanted != AUTO:
        reason = f"promote.candidate says so, and so would `{AUTO}`: {reason}"
    chosen = best.model if wanted == AUTO else wanted
    table = [asdict(row) for row in rows]
    return {"chosen": chosen, "reason": reason, "metric": metric, "samples": samples, "rows": table}


def cheapest_of_equals(
    rows: Sequence[CandidateRow], same_cost: float, preferred: str | None = None
) -> CandidateRow:
    """Return the best of those that cost least among the equals of the best, or `preferred` if it is one."""
    equal = [row for row in rows if row.equal]
    cheapest = min(row.multiplications for row in equal)
    return max(
        (row for row in equal if row.multiplications <= cheapest * (1 + same_cost)),
        key=lambda row: (row.model == preferred, row.value, -row.log_loss, -row.multiplications),
    )


def compare(
    predictions: Mapping[str, Predictions], costs: Mapping[str, Cost], draws: int, seed: int
) -> list[CandidateRow]:
    """Compare every model with the best one, by main metric and then by log loss; see `choose_candidate`."""
    first = next(iter(predictions.values()))
    everything = np.arange(len(first.labels))
    samples = [everything, *resamples(first.groups, draws, seed)]
    values = {
        name: np.array([one.metrics[one.main](one, rows) for rows in samples])
        for name, one in predictions.items()
    }
    losses = {name: one.metrics["nll"](one, everything) for name, one in predictions.items()}
    best = max(predictions, key=lambda name: (values[name][0], -losses[name]))
    table = []
    for name in predictions:
        gap = values[best] - values[name]
        behind, error = float(gap[0]), float(gap[1:].std())
        extra = predictions[name].nll - predictions[best].nll
        loss_behind, loss_error = float(extra.mean()), math.sqrt(mean_variance(extra, first.groups))
        row = CandidateRow(
            model=name,
            value=round(float(values[name][0]), 6),
            log_loss=round(float(losses[name]), 6),
            behind=round(behind, 6),
            standard_error=round(error, 6),
            loss_behind=round(loss_behind, 6),
            loss_standard_error=round(loss_error, 6),
            equal=behind <= error and loss_behind <= loss_error,
            **asdict(costs[name]),
        )
        table.append(row)
    return table


def reason_of(chosen: CandidateRow, rows: list[CandidateRow], metric: str, samples: int) -> str:
    """Say in a sentence why a model was chosen."""
    best = max(rows, key=lambda row: (row.value, -row.log_loss))
    found = f"validation {metric} {chosen.value:.3f} of {samples} samples"
    if chosen.model == best.model:
        others = [row for row in rows if row.equal and row.multiplications > chosen.multiplications]
        return f"{found}, the best of {len(rows)} models{', at the lowest cost' if others else ''}"
    share = chosen.multiplications / best.multiplications
    gap = f"{chosen.behind:.3f} behind, standard error {chosen.standard_error:.3f}"
    same = chosen.multiplications == best.multiplications
    at = "which was trained longer" if same else f"at {share:.0%} of its multiplications"
    return f"{found}, within one standard error of the best, {named(best.model)} ({gap}), {at}"


def named(model: str) -> str:
    """Return a model's name as it is written in a sentence."""
    return model.replace("_", " ")
