"""What the search comes to: the winner, whether falling rates paid, the soup, the probe's advice."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steps.core.features.batches import Cache
from steps.core.features.probe import probe_stages
from steps.core.strategy.finalists import Finalist, compare_rates, difference, hold_finals, in_words, repeat
from steps.core.strategy.search import completed
from steps.core.strategy.search_space import Space
from steps.core.strategy.soup import greedy_soup
from steps.core.strategy.trials import Rates, Trials


def conclude(
    trials: Trials, found: Mapping[str, list[dict[str, Any]]], cache: Cache, space: Space, seed: int
) -> tuple[Rates, dict[str, Any], dict[str, Tensor] | None]:
    """Return the winning rates, all figures behind them, and the soup's weights if it was better."""
    finals = hold_finals(trials, found, space, seed)
    winner = finals[0]
    labels = torch.cat([batch.y for batch in trials.batches.plain("val")])
    ended = [trials.run(rates) for rows in found.values() for rates in completed(rows)]
    runs = [*ended, *(run for finalist in finals if finalist.unfreeze for run in finalist.runs)]
    best = min(winner.runs, key=lambda run: run.val_loss)
    soup, state = greedy_soup(trials, runs, best, labels, space.bootstrap, seed)
    rows = [row for rows in found.values() for row in rows]
    summary = {
        "trials": len(rows),
        "pruned": sum(row["pruned"] for row in rows),
        "finalists": [finalist.row() for finalist in finals],
        "comparison": compare_rates(finals, labels, space.bootstrap, seed),
        "soup": soup,
        "probe": heed_probe(trials, winner, cache, labels, space, seed),
    }
    return winner.rates, summary, state


def heed_probe(
    trials: Trials, winner: Finalist, cache: Cache, labels: Tensor, space: Space, seed: int
) -> dict[str, Any]:
    """Probe every stage, and train the winner's rates again with as many stages as it suggests.

    The cache serves this where fewer stages would train; more need another freeze boundary.
    """
    probe = probe_stages(cache, space.probe_samples, space.bootstrap, seed)
    wanted, used = probe["suggested_unfreeze"], winner.unfreeze
    if wanted > used:
        said = f"The search did not try it: set fine_tune.unfreeze to {wanted} and run again."
        return {**probe, "unfreeze": used, "agreed": None, "said": said}
    if wanted == used:
        return {**probe, "unfreeze": used, "agreed": True, "said": "The two agree."}
    runs = repeat(trials, winner.rates, space.repeats, seed, wanted)
    gap = difference(runs, winner.runs, labels, space.bootstrap, seed)
    word = in_words(gap)
    said = {
        "better": f"The search agrees: {wanted} would be better.",
        "worse": f"The search disagrees: with {wanted} the loss is worse.",
    }.get(word, f"The search shows no difference between {wanted} and {used}: {wanted} would be cheaper.")
    return {**probe, "unfreeze": used, "agreed": word != "worse", "difference": gap, "said": said}
