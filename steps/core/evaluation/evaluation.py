"""Every model on the same test samples: metrics with intervals, paired differences, weak spots."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from torch import Tensor

from steps.core.backbones.network import Network
from steps.core.data.files import Source
from steps.core.evaluation.baselines import control_rows
from steps.core.evaluation.inference import Predictor, predict_together
from steps.core.evaluation.robustness import robustness
from steps.core.evaluation.slices import slice_rows
from steps.core.modalities.contract import Modality
from steps.core.modalities.parts import Preprocessing
from steps.core.modalities.registry import modality_of
from steps.core.tasks.calibration_error import calibration_bins
from steps.core.tasks.comparisons import paired_differences, paired_test
from steps.core.tasks.intervals import metric_intervals
from steps.core.tasks.label_sets import LabelSetPredictions, label_rows
from steps.core.tasks.labelling import ONE_LABEL, Labelling
from steps.core.tasks.metrics import (
    SingleLabelPredictions,
    auroc_per_class,
    coverage,
    per_class,
)
from steps.core.tasks.predictions import Predictions
from steps.core.tasks.resampling import group_numbers
from steps.core.tasks.targets import logit_thresholds
from steps.core.tasks.thresholds import predictions_of

MAIN = "finetuned"
PAIRS = {"gain": (MAIN, "warm_head"), "student_loss": ("student", MAIN)}


class Model(Protocol):
    """A trained classifier, as an artifact holds it."""

    @property
    def meta(self) -> dict[str, Any]:
        """Labels and temperature among others."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How a sample becomes the network's input."""

    def network(self) -> Network:
        """Build the network with its weights."""


@dataclass(frozen=True)
class EvaluationResult:
    """What the test set says."""

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    """A row per test sample: path, sha256, label, and per model its answer, confidence, logits."""
    predictions_by_model: dict[str, Predictions]
    candidate: str = MAIN
    """The model that is put forward."""


def evaluate_models(
    models: Mapping[str, Model],
    rows: pd.DataFrame,
    labels: list[str],
    source: Source,
    draws: int,
    seed: int,
    robustness_samples: int = 0,
    controls: Sequence[str] = (),
    labelling: Labelling = ONE_LABEL,
    candidate: str = MAIN,
) -> EvaluationResult:
    """Predict the test rows with every model and measure; `gain` is fine-tuned minus warm head.

    `robustness_samples` is how many test samples the corruptions are tried on; `controls` are the student's,
    names in `models`; slices, reliability and robustness are of `candidate`, a name in `models` too.
    """
    truth = labelling.encode(rows["label"], labels)
    predictors = {name: Predictor(model.network(), model.preprocessing) for name, model in models.items()}
    kind = modality_of(models[candidate].meta)
    logits, facts = predict_together(
        predictors, source, list(rows["path"]), lambda sample, views: kind.slice_facts(sample, views[0])
    )
    groups = group_numbers(rows)
    predictions_by_model = {
        name: predictions_of(logits[name], truth, model.meta, groups) for name, model in models.items()
    }
    predictions = rows[["path", "sha256", "label"]].reset_index(drop=True)
    for name, prediction in predictions_by_model.items():
        predictions[name] = prediction.as_texts(labels)
        predictions[f"{name}_confidence"] = prediction.confidence
        predictions[f"{name}_logits"] = list(prediction.logits)
    pairs = {
        name: (predictions_by_model[one], predictions_by_model[other])
        for name, (one, other) in PAIRS.items()
        if {one, other} <= set(models)
    }
    metrics = {
        "models": {name: metric_intervals(o, draws, seed) for name, o in predictions_by_model.items()},
        **{name: paired_differences(*pair, draws, seed) for name, pair in pairs.items()},
        "mcnemar": {name: paired_test(*pair) for name, pair in pairs.items()},
        "per_class": {
            name: per_class_rows(o, labels, draws, seed) for name, o in predictions_by_model.items()
        },
        "temperature": {name: model.meta["temperature"] for name, model in models.items()},
        "coverage": {name: coverage(o) for name, o in predictions_by_model.items()},
        "reliability": reliability_rows(predictions_by_model[candidate]),
        "slices": slice_rows(predictions_by_model[candidate], rows, pd.DataFrame(facts)),
        "controls": control_rows(
            predictions_by_model["student"], {name: predictions_by_model[name] for name in controls}
        )
        if controls
        else {},
        "robustness": robustness_rows(
            predictors[candidate],
            kind,
            rows,
            truth,
            source,
            robustness_samples,
            seed,
            logit_thresholds(models[candidate].meta),
        ),
        "test": {
            "samples": len(rows),
            "groups": len(np.unique(groups)) if groups is not None else None,
            "digest": test_digest(rows),
        },
    }
    if predictions_by_model[candidate].main != SingleLabelPredictions.main:
        metrics["main"] = predictions_by_model[candidate].main
    return EvaluationResult(metrics, predictions, predictions_by_model, candidate)


def robustness_rows(
    predictor: Predictor, kind: Modality, rows: pd.DataFrame, truth: "np.ndarray[Any, np.dtype[np.int64]]",
    source: Source, count: int, seed: int, logit_threshold: Tensor,
) -> list[dict[str, Any]]:  # fmt: skip
    """Try the corruptions on a part of the test set that follows from the contents of its files."""
    places = np.argsort(rows["sha256"].to_numpy(), kind="stable")[:count]
    if not len(places):
        return []
    paths = rows["path"].to_numpy()[places]
    network, preprocessing = predictor
    views = [preprocessing.view(preprocessing.decode(source.read(path))) for path in paths]
    return robustness(
        network,
        preprocessing,
        kind.corruptions(preprocessing),
        views,
        truth[places].tolist(),
        seed,
        logit_threshold,
    )


def per_class_rows(
    predictions: Predictions, labels: list[str], draws: int, seed: int
) -> list[dict[str, Any]]:
    """Return the table of the classes, or of the labels that may occur together."""
    if isinstance(predictions, LabelSetPredictions):
        return label_rows(predictions, labels, draws, seed)
    assert isinstance(predictions, SingleLabelPredictions)
    return class_rows(predictions, labels)


def class_rows(predictions: SingleLabelPredictions, labels: list[str]) -> list[dict[str, Any]]:
    """Return precision, recall, F1, AUROC and support of every class."""
    everything = np.arange(len(predictions.labels))
    table = per_class(predictions.confusion(everything))
    areas = auroc_per_class(predictions, everything)
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


def reliability_rows(predictions: Predictions) -> dict[str, list[dict[str, float]]]:
    """Return the reliability diagram before and after the temperature."""
    return {
        "before": calibration_bins(*predictions.calibration_pairs(predictions.uncalibrated)),
        "after": calibration_bins(*predictions.calibration_pairs(predictions.probabilities)),
    }
