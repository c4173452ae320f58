"""Every model on the same test samples: metrics with intervals, paired differences, weak spots."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from torch import Tensor

from steps.core.backbones.network import Network
from steps.core.data.files import Source
from steps.core.evaluation.baselines import control_rows
from steps.core.evaluation.inference import Looker, predict_together
from steps.core.evaluation.robustness import robustness
from steps.core.evaluation.slices import slice_rows
from steps.core.modalities.contract import Modality
from steps.core.modalities.parts import Preprocessing
from steps.core.modalities.registry import modality_of
from steps.core.tasks.intervals import compare, evaluate, mcnemar
from steps.core.tasks.label_sets import SetOutcome, label_rows
from steps.core.tasks.labelling import ONE_LABEL, Labelling
from steps.core.tasks.metrics import Outcome, auroc_per_class, binned, coverage, per_class
from steps.core.tasks.predictions import Answers
from steps.core.tasks.targets import cuts
from steps.core.tasks.thresholds import outcome_of

MAIN = "finetuned"
PAIRS = {"gain": (MAIN, "warm_head"), "student_loss": ("student", MAIN)}


class Model(Protocol):
    """A trained classifier, as an artifact holds it."""

    @property
    def meta(self) -> dict[str, Any]:
        """Labels and temperature among others."""

    @property
    def look(self) -> Preprocessing:
        """How a sample becomes the network's input."""

    def network(self) -> Network:
        """Build the network with its weights."""


@dataclass(frozen=True)
class Verdict:
    """What the test set says."""

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    """A row per test sample: path, sha256, label, and per model its answer, confidence, logits."""
    outcomes: dict[str, Answers]


def judge(
    models: Mapping[str, Model],
    rows: pd.DataFrame,
    labels: list[str],
    source: Source,
    draws: int,
    seed: int,
    robust: int = 0,
    controls: Mapping[str, Model] | None = None,
    labelling: Labelling = ONE_LABEL,
) -> Verdict:
    """Predict the test rows with every model and measure; `gain` is fine-tuned minus warm head.

    `robust` is how many test samples the corruptions are tried on; `controls` are the student's.
    """
    controls = controls or {}
    truth = labelling.encode(rows["label"], labels)
    every = {**models, **controls}
    lookers = {name: Looker(model.network(), model.look) for name, model in every.items()}
    kind = modality_of(models[MAIN].meta)
    logits, facts = predict_together(
        lookers, source, list(rows["path"]), lambda sample, views: kind.slice_facts(sample, views[0])
    )
    answered = {name: outcome_of(logits[name], truth, model.meta) for name, model in every.items()}
    outcomes = {name: answered[name] for name in models}
    predictions = rows[["path", "sha256", "label"]].reset_index(drop=True)
    for name, outcome in outcomes.items():
        predictions[name] = outcome.answers(labels)
        predictions[f"{name}_confidence"] = outcome.confidence
        predictions[f"{name}_logits"] = list(outcome.logits)
    pairs = {name: (outcomes[one], outcomes[other]) for name, (one, other) in PAIRS.items()}
    metrics = {
        "models": {name: evaluate(o, draws, seed) for name, o in outcomes.items()},
        **{name: compare(*pair, draws, seed) for name, pair in pairs.items()},
        "mcnemar": {name: mcnemar(*pair) for name, pair in pairs.items()},
        "per_class": {name: rows_of(o, labels, draws, seed) for name, o in outcomes.items()},
        "temperature": {name: model.meta["temperature"] for name, model in models.items()},
        "coverage": {name: coverage(o) for name, o in outcomes.items()},
        "reliability": reliability_rows(outcomes[MAIN]),
        "slices": slice_rows(outcomes[MAIN], rows, pd.DataFrame(facts)),
        "controls": control_rows(
            outcomes["student"], {name: answered[name] for name in controls}, draws, seed
        ),
        "robustness": robust_rows(
            lookers[MAIN], kind, rows, truth, source, robust, seed, cuts(models[MAIN].meta)
        ),
        "test": {"samples": len(rows), "digest": test_digest(rows)},
    }
    if outcomes[MAIN].main != Outcome.main:
        metrics["main"] = outcomes[MAIN].main
    return Verdict(metrics, predictions, outcomes)


def robust_rows(
    looker: Looker, kind: Modality, rows: pd.DataFrame, truth: "np.ndarray[Any, np.dtype[np.int64]]",
    source: Source, count: int, seed: int, cut: Tensor,
) -> list[dict[str, Any]]:  # fmt: skip
    """Try the corruptions on a part of the test set that follows from the contents of its files."""
    places = np.argsort(rows["sha256"].to_numpy(), kind="stable")[:count]
    if not len(places):
        return []
    paths = rows["path"].to_numpy()[places]
    network, look = looker
    views = [look.view(look.decode(source.read(path))) for path in paths]
    return robustness(network, look, kind.corruptions, views, truth[places].tolist(), seed, cut)


def rows_of(outcome: Answers, labels: list[str], draws: int, seed: int) -> list[dict[str, Any]]:
    """Return the table of the classes, or of the labels that may occur together."""
    if isinstance(outcome, SetOutcome):
        return label_rows(outcome, labels, draws, seed)
    assert isinstance(outcome, Outcome)
    return class_rows(outcome, labels)


def class_rows(outcome: Outcome, labels: list[str]) -> list[dict[str, Any]]:
    """Return precision, recall, F1, AUROC and support of every class."""
    everything = np.arange(len(outcome.labels))
    table = per_class(outcome.confusion(everything))
    areas = auroc_per_class(outcome, everything)
    numbers = table.pop("class").astype(int)
    return [
        {
            "class": labels[number],
            **{name: float(column[i]) for name, column in table.items()},
            "auroc": None if np.isnan(areas[number]) else float(areas[number]),
        }
        for i, number in enumerate(numbers)
    ]


def test_digest(rows: pd.DataFrame) -> str:
    """Identify a test set by contents and labels; the order and the names do not matter."""
    pairs = sorted(zip(rows["sha256"], rows["label"], strict=True))
    return hashlib.sha256(repr(pairs).encode()).hexdigest()


def reliability_rows(outcome: Answers) -> dict[str, list[dict[str, float]]]:
    """Return the reliability diagram before and after the temperature."""
    return {
        "before": binned(*outcome.beliefs(outcome.raw)),
        "after": binned(*outcome.beliefs(outcome.probabilities)),
    }
