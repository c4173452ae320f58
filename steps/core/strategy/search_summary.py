"""What the search comes to: the winner, whether falling rates paid, the soup, the probe's advice."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steps.core.features.batches import Cache
from steps.core.features.probe import probe_stages
from steps.core.strategy.finalists import (
    COMPARISON,
    MIN_SEEDS,
    Finalist,
    compare_rates,
    loss_verdict,
    repeat,
    seed_differences,
    train_finalists,
)
from steps.core.strategy.search import completed
from steps.core.strategy.search_space import SearchSpace
from steps.core.strategy.soup import greedy_soup
from steps.core.strategy.trials import Rates, Trials


def summarise_search(
    trials: Trials, found: Mapping[str, list[dict[str, Any]]], cache: Cache, space: SearchSpace, seed: int
) -> tuple[Rates, dict[str, Any], dict[str, Tensor] | None]:
    """Return the winning rates, all figures behind them, and the soup's weights if it was better."""
    finalists = train_finalists(trials, found, space, seed)
    winner = finalists[0]
    labels = torch.cat([batch.y for batch in trials.batches.deterministic("val")])
    ended = [trials.run(rates) for rows in found.values() for rates in completed(rows)]
    runs = [*ended, *(run for finalist in finalists if finalist.unfreeze for run in finalist.runs)]
    best = min(winner.runs, key=lambda run: run.val_loss)
    soup, state = greedy_soup(trials, runs, best, labels)
    rows = [row for rows in found.values() for row in rows]
    summary = {
        "trials": len(rows),
        "pruned": sum(row["pruned"] for row in rows),
        "finalists": [finalist.row() for finalist in finalists],
        "comparison": compare_rates(trials, finalists, labels, space.comparison_repeats, seed),
        "soup": soup,
        "probe": check_probe_suggestion(trials, winner, cache, labels, space, seed),
    }
    return winner.rates, summary, state


def check_probe_suggestion(
    trials: Trials, winner: Finalist, cache: Cache, labels: Tensor, space: SearchSpace, seed: int
) -> dict[str, Any]:
    """Probe every stage, and train the winner's rates again with as many stages as it suggests.

    The cache serves this where fewer stages would train; more need another freeze boundary.
    """
    probe = probe_stages(cache, space.probe_samples, space.bootstrap, seed)
    wanted, used = probe["suggested_unfreeze"], winner.unfreeze
    if wanted > used:
        advice = f"The search did not test this: set fine_tune.unfreeze to {wanted} and run again."
        return {**probe, "unfreeze": used, "agreed": None, "advice": advice}
    if wanted == used:
        return {**probe, "unfreeze": used, "agreed": True, "advice": "The two agree."}
    if space.comparison_repeats < MIN_SEEDS:
        advice = f"The search did not test this: set search_lr_ratio.comparison_repeats to {MIN_SEEDS}."
        return {**probe, "unfreeze": used, "agreed": None, "advice": advice}
    runs, its = (
        repeat(trials, winner.rates, space.comparison_repeats, seed, stages, COMPARISON)
        for stages in (wanted, used)
    )
    gap = seed_differences(runs, its, labels)
    word = loss_verdict(gap)
    advice = {
        "better": f"The search agrees: {wanted} would be better.",
        "worse": f"The search disagrees: with {wanted} the loss is worse.",
    }.get(word, f"The search shows no difference between {wanted} and {used}: {wanted} is cheaper.")
    return {**probe, "unfreeze": used, "agreed": word != "worse", "difference": gap, "advice": advice}
