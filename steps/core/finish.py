"""What every trained model gets at the end: a temperature, and its figures on validation."""

from typing import Any

import numpy as np
import torch

from steps.core.batches import Batches
from steps.core.loop import Trained, predict
from steps.core.metrics import Outcome, ece, fit_temperature


def calibrate(trained: Trained, batches: Batches) -> tuple[float, dict[str, float]]:
    """Return the temperature fitted on validation, and the validation metrics."""
    logits, labels = (tensor.numpy() for tensor in predict(trained.network, batches, "val"))
    temperature = round(fit_temperature(logits.astype(np.float64), labels), 4)
    outcome = Outcome(logits.astype(np.float64), labels, temperature)
    rows = np.arange(len(labels))
    return temperature, {
        "val_accuracy": round(trained.best.val_accuracy, 6),
        "val_loss": round(trained.best.val_loss, 6),
        "val_ece": round(ece(outcome, rows), 6),
        "best_epoch": float(trained.best.epoch),
    }


def describe(meta: dict[str, Any], stages: int, temperature: float) -> dict[str, Any]:
    """Return all that is needed, beside the weights, to predict."""
    return {
        "backbone": meta["backbone"],
        "stages": stages,
        "labels": meta["labels"],
        "preprocessing": meta["preprocessing"],
        "temperature": temperature,
        "weights_sha256": meta["weights_sha256"],
    }


def seeded(seed: int) -> None:
    """Make everything that draws from torch's own generator repeatable."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    # Not by filling every fresh tensor with NaN first: that finds reads of unwritten memory, of which
    # there are none here, and costs a seventh of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
