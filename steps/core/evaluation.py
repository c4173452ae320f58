"""Every model on the same test images: metrics with intervals, paired differences, predictions."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from steps.core.files import Folder
from steps.core.images import Preprocessing
from steps.core.metrics import Outcome, compare, evaluate, per_class, reliability
from steps.core.network import Network
from steps.core.predict import predict_paths


class Model(Protocol):
    """A trained classifier, as an artifact holds it."""

    @property
    def meta(self) -> dict[str, Any]:
        """Labels and temperature among others."""
        ...

    @property
    def look(self) -> Preprocessing:
        """How an image becomes the network's input."""
        ...

    def network(self) -> Network:
        """Build the network with its weights."""
        ...


@dataclass(frozen=True)
class Verdict:
    """What the test set says."""

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    """A row per test sample: path, sha256, label, and per model its answer and confidence."""
    outcomes: dict[str, Outcome]


def judge(
    models: Mapping[str, Model],
    rows: pd.DataFrame,
    labels: list[str],
    folder: Folder,
    draws: int,
    seed: int,
) -> Verdict:
    """Predict the test rows with every model and measure; `gain` is fine-tuned minus warm head."""
    truth = rows["label"].map(labels.index).to_numpy(dtype=np.int64)
    outcomes = {}
    predictions = rows[["path", "sha256", "label"]].reset_index(drop=True)
    for name, model in models.items():
        logits = predict_paths(model.network(), model.look, folder, list(rows["path"]))
        outcome = Outcome(logits, truth, model.meta["temperature"])
        outcomes[name] = outcome
        predictions[name] = [labels[k] for k in outcome.predicted]
        predictions[f"{name}_confidence"] = outcome.probabilities.max(axis=1)
    metrics = {
        "models": {name: evaluate(o, draws, seed) for name, o in outcomes.items()},
        "gain": compare(outcomes["finetuned"], outcomes["warm_head"], draws, seed),
        "student_loss": compare(outcomes["student"], outcomes["finetuned"], draws, seed),
        "per_class": {name: class_rows(o, labels) for name, o in outcomes.items()},
        "temperature": {name: model.meta["temperature"] for name, model in models.items()},
        "test": {"samples": len(rows), "digest": test_digest(rows)},
    }
    return Verdict(metrics, predictions, outcomes)


def class_rows(outcome: Outcome, labels: list[str]) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and support of every class."""
    table = per_class(outcome.confusion(np.arange(len(outcome.labels))))
    numbers = table.pop("class").astype(int)
    return [
        {"class": labels[number], **{name: float(column[i]) for name, column in table.items()}}
        for i, number in enumerate(numbers)
    ]


def test_digest(rows: pd.DataFrame) -> str:
    """Identify a test set by contents and labels; the order and the names do not matter."""
    pairs = sorted(zip(rows["sha256"], rows["label"], strict=True))
    return hashlib.sha256(repr(pairs).encode()).hexdigest()


def reliability_rows(outcome: Outcome) -> dict[str, list[dict[str, float]]]:
    """Return the reliability diagram before and after the temperature."""
    return {
        "before": reliability(outcome.raw, outcome.labels),
        "after": reliability(outcome.probabilities, outcome.labels),
    }
