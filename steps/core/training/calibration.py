"""What every trained model gets at the end: a temperature, and its figures on validation."""

import logging
from typing import Any

import numpy as np
import torch

from steps.core.backbones.readout import Readout
from steps.core.features.batches import Batches
from steps.core.tasks.intervals import metric_intervals
from steps.core.tasks.thresholds import fit_temperature_and_thresholds, predictions_of
from steps.core.training.loop import Trained, predict

FEW_ERRORS = 10  # of validation, below which they hardly tell how sure a model may be

log = logging.getLogger("headstart")


def calibrate(trained: Trained, batches: Batches) -> tuple[dict[str, Any], dict[str, float]]:
    """Return temperature and thresholds, chosen on validation, and the validation metrics."""
    logits, labels = (tensor.numpy() for tensor in predict(trained.network, batches, "val"))
    wide = logits.astype(np.float64)
    chosen = fit_temperature_and_thresholds(wide, labels)
    predictions, rows = predictions_of(wide, labels, chosen), np.arange(len(labels))
    errors = int((~predictions.correct).sum())
    if errors < FEW_ERRORS:
        log.debug("the temperature rests on %d mistake(s) in %d of validation: too few", errors, len(rows))
    return chosen, {
        "val_accuracy": round(trained.best.val_accuracy, 6),
        "val_loss": round(trained.best.val_loss, 6),
        **{
            f"val_{name}": round(predictions.metrics[name](predictions, rows), 6)
            for name in predictions.validation_metrics
        },
        "best_epoch": float(trained.best.epoch),
        "val_errors": float(errors),
    }


def validation_interval(
    trained: Trained, batches: Batches, chosen: dict[str, Any], draws: int, seed: int
) -> dict[str, float]:
    """Return the 95 % interval of the main metric on validation, `val_low` and `val_high`, and its n.

    See `steps.core.tasks.intervals`; `chosen` is from `calibrate`.
    """
    logits, labels = (tensor.numpy() for tensor in predict(trained.network, batches, "val"))
    predictions = predictions_of(logits.astype(np.float64), labels, chosen)
    found = metric_intervals(predictions, draws, seed, names=(predictions.main,))[predictions.main]
    return {
        "val_low": round(found["low"], 6),
        "val_high": round(found["high"], 6),
        "val_samples": float(len(labels)),
    }


def model_metadata(meta: dict[str, Any], readout: Readout, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return all that is needed, beside the weights, to predict; `chosen` is from `calibrate`."""
    return {
        "modality": meta["modality"],
        "backbone": meta["backbone"],
        "stages": readout.keep,
        "readout": readout.to_dict(),
        "labels": meta["labels"],
        "preprocessing": meta["preprocessing"],
        **chosen,
        "weights_sha256": meta["weights_sha256"],
    }


def seed_everything(seed: int) -> None:
    """Make everything that draws from torch's own generator repeatable."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    # Not by filling every fresh tensor with NaN first: that finds reads of unwritten memory, of which
    # there are none here, and costs a seventh of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
