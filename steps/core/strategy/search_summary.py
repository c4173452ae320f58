"""What the search comes to: the winner, whether falling rates paid, and the soup."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steps.core.strategy.finalists import compare_rates, train_finalists
from steps.core.strategy.search import completed
from steps.core.strategy.search_space import SearchSpace
from steps.core.strategy.soup import greedy_soup
from steps.core.strategy.trials import Rates, Trials


def summarise_search(
    trials: Trials, found: Mapping[str, list[dict[str, Any]]], space: SearchSpace, seed: int
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
    }
    return winner.rates, summary, state
