"""A greedy soup: the average of the weights of finished trainings (Wortsman et al. 2022)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steps.core.features.batches import Batches
from steps.core.strategy.finalists import sample_differences
from steps.core.strategy.trials import Run, Trials
from steps.core.tasks import targets
from steps.core.training.loop import Trained, measure, predict


def greedy_soup(
    trials: Trials, runs: Sequence[Run], winner: Run, labels: Tensor
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """Average the weights of finished runs as long as validation gains.

    Returns:
        The figures, and the weights if their validation loss is below the winner's, else None.
    """
    ranked = sorted((run for run in runs if run.val_losses), key=lambda run: run.val_loss)
    members = [ranked[0]]
    best = ranked[0]
    for run in ranked[1:]:
        mixed = evaluate_average(trials, [*members, run])
        if mixed.val_loss < best.val_loss:
            members, best = [*members, run], mixed
    kept = len(members) > 1 and best.val_loss < winner.val_loss
    figures = {
        "members": len(members),
        "candidates": len(ranked),
        "val_loss": best.val_loss,
        "winner_val_loss": winner.val_loss,
        "against_winner": sample_differences(best, winner, labels),
        "kept": kept,
    }
    return figures, best.state if kept else None


def evaluate_average(trials: Trials, members: Sequence[Run]) -> Run:
    """Average the members' weights, and measure the average on validation."""
    state = {
        name: torch.stack([member.state[name] for member in members]).mean(dim=0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in members[0].state.items()
    }
    logits, labels = predict(trials.with_state(state), trials.batches, "val")
    loss = float(targets.kind_for(labels).loss(logits, labels))
    return Run(members[0].rates, [loss], state, logits)


def use_soup_if_better(
    trained: Trained, soup: dict[str, Tensor] | None, batches: Batches, monitor: str
) -> tuple[Trained, bool]:
    """Give a trained network the soup's weights if they do better on validation; say whether."""
    if soup is None:
        return trained, False
    network, own = trained.network, trained.network.state()
    network.load_state({**own, **soup})
    best = replace(trained.best, **measure(network, batches))
    if best.badness(monitor) >= trained.best.badness(monitor):
        network.load_state(own)
        return trained, False
    return replace(trained, best=best), True
