"""Which model of a run is put forward: the best on validation and, among equals, the cheaper one.

Two models count as equal where the difference of their main metrics is at most one standard error of the
paired difference (the one-standard-error rule of Breiman et al. 1984, "Classification and regression trees").
Cost is counted in multiplications of one sample, not timed: the same on every machine, in every run.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from steps.core.backbones.network import Network
from steps.core.modalities.parts import Preprocessing
from steps.core.tasks.predictions import Predictions
from steps.core.tasks.resampling import resamples

AUTO = "auto"


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
    equal = [row for row in rows if row.equal]
    cheapest = min(row.multiplications for row in equal)
    best = max(
        (row for row in equal if row.multiplications <= cheapest * (1 + same_cost)),
        key=lambda row: (row.value, -row.log_loss, -row.multiplications),
    )
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
        row = CandidateRow(
            model=name,
            value=round(float(values[name][0]), 6),
            log_loss=round(float(losses[name]), 6),
            behind=round(behind, 6),
            standard_error=round(error, 6),
            equal=behind <= error,
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
    return (
        f"{found}, within one standard error of the best, {named(best.model)} ({gap}), "
        f"at {share:.0%} of its multiplications"
    )


def named(model: str) -> str:
    """Return a model's name as it is written in a sentence."""
    return model.replace("_", " ")
