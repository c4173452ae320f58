"""The page of the search: its history, what mattered, the two rates and the finals."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import TrialState, create_trial
from optuna.visualization import matplotlib as draw

from steps.core.report.html import render
from steps.core.report.plots import data_uri
from steps.core.strategy.search import DISCRIMINATIVE
from steps.core.strategy.search_space import SearchSpace

LEAST = 4  # finished trials with different losses: below that, importance and contour mean nothing


def render_no_search(reason: str) -> str:
    """Render the page of a search that was not needed."""
    return render("no_search.html", reason=reason)


def render_search(
    trials: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], space: SearchSpace, seed: int
) -> str:
    """Render the page; the figures are of the search itself, without its control."""
    rows = [row for row in trials if row["study"] == trials[0]["study"]]
    return render(
        "search.html",
        trials=trials,
        summary=summary,
        figures=draw_study(rows, space, seed),
    )


def draw_study(rows: Sequence[Mapping[str, Any]], space: SearchSpace, seed: int) -> dict[str, str]:
    """Draw what Optuna draws of a study: history, and with enough trials importance and contour."""
    study = rebuild(rows, space)
    ended = {trial.value for trial in study.get_trials(states=(TrialState.COMPLETE,))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        figures = {"history": optuna_figure(draw.plot_optimization_history(study))}
        tuned = sorted({name for trial in study.trials for name in trial.params})
        if len(ended) >= LEAST and len(tuned) > 1:
            evaluator = FanovaImportanceEvaluator(seed=seed)
            figures["importance"] = optuna_figure(draw.plot_param_importances(study, evaluator=evaluator))
            figures["contour"] = optuna_figure(draw.plot_contour(study, tuned[:2]))
    return figures


def rebuild(rows: Sequence[Mapping[str, Any]], space: SearchSpace) -> optuna.Study:
    """Put trials back into a study in memory."""
    study = optuna.create_study()
    rate = FloatDistribution(space.head_lr_low, space.head_lr_high, log=True)
    ratio = FloatDistribution(space.ratio_low, space.ratio_high, log=True)
    low, high = space.weight_decay or (1.0, 1.0)
    decay = FloatDistribution(low, high, log=True)
    for row in rows:
        params = {"head_lr": row["head_lr"]}
        ranges: dict[str, BaseDistribution] = {"head_lr": rate}
        if isinstance(row["ratio"], list):
            ratios = {f"ratio_{i + 1}": value for i, value in enumerate(row["ratio"])}
        else:
            ratios = {"ratio": row["ratio"]} if row["study"] == DISCRIMINATIVE else {}
        params.update(ratios)
        ranges.update(dict.fromkeys(ratios, ratio))
        if space.weight_decay:
            params["weight_decay"] = row["weight_decay"]
            ranges["weight_decay"] = decay
        state = TrialState.PRUNED if row["pruned"] else TrialState.COMPLETE
        value = None if row["pruned"] else row["val_loss"]
        study.add_trial(create_trial(state=state, value=value, params=params, distributions=ranges))
    return study


def optuna_figure(axes: Any) -> str:
    """Return one of Optuna's figures as a data URI; its global style is undone."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.set_size_inches(6.0, 4.2)
    uri = data_uri(figure)
    plt.style.use("default")
    return uri
