"""The expected calibration error of probabilities, and what of it is more than chance.

Guo et al. 2017, "On calibration of modern neural networks": 15 bins of equal width. Within a bin chance
alone separates confidence from accuracy: the figure of a perfectly calibrated model is above zero, and the
more so the fewer the samples (Roelofs et al. 2022, "Mitigating bias in calibration error estimation").
The estimate and the interval here answer for that: see `calibration_interval`.
"""

import numpy as np

from steps.core.tasks.predictions import Bools, Floats, Ints, Predictions
from steps.core.tasks.resampling import design_effect

ECE_BINS = 15
SHARES = np.linspace(0, 1, 11)  # of the observed gaps, for which data are drawn


def reliability(probabilities: Floats, labels: Ints) -> list[dict[str, float]]:
    """Return count, mean confidence and accuracy of each of the bins that is not empty."""
    return calibration_bins(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)


def calibration_bins(confidence: Floats, correct: Bools) -> list[dict[str, float]]:
    """Return the same of statements (n,) and whether they are true."""
    bins = bin_numbers(confidence)
    return [
        {
            "count": float((bins == b).sum()),
            "confidence": float(confidence[bins == b].mean()),
            "accuracy": float(correct[bins == b].mean()),
        }
        for b in np.unique(bins)
    ]


def calibration_error(probabilities: Floats, labels: Ints) -> float:
    """Return the mean gap between confidence and accuracy, weighted by the bins' counts."""
    confidence = probabilities.max(axis=1)
    gaps = (probabilities.argmax(axis=1) == labels) - confidence
    return float(np.abs(np.bincount(bin_numbers(confidence), weights=gaps)).sum() / len(labels))


def bin_numbers(confidence: Floats) -> Ints:
    """Return each probability's bin, 0 to 14."""
    bins: Ints = np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    return bins


def calibration_interval(
    predictions: Predictions, probabilities: Floats, draws: int, seed: int, level: float
) -> dict[str, float]:
    """Return value, low, high of the calibration error, of label sets averaged over the labels.

    Data are drawn for models whose gaps between accuracy and confidence are a share of those that were seen.
    The value is the error of the one whose data show more than was seen half of the time (a median-unbiased
    estimate), `low` that of the one whose data show as much with a probability of (1 - level) / 2. The data
    of a calibrated model show some error too: where they show as much as was seen, the low end is 0.

    Args:
        predictions: What was answered, and the truth.
        probabilities: Theirs, before or after the temperature (n, classes).
        draws: Data sets that are drawn for each share.
        seed: Of the draws.
        level: Probability that the interval covers the error that these bins would have on endless data.
    """
    confidence, true = predictions.calibration_pairs(probabilities)
    labels = len(confidence) // len(predictions.labels)
    cells = bin_numbers(confidence) + ECE_BINS * (np.arange(len(confidence)) % labels)
    _, cells, counts = np.unique(cells, return_inverse=True, return_counts=True)
    said, seen = (np.bincount(cells, weights=values) / counts for values in (confidence, true))
    weights = counts / len(confidence)
    noise = np.sqrt(design_effect(true - confidence, np.repeat(predictions.groups, labels)))
    generator = np.random.default_rng(seed)

    def drawn(accuracy: Floats) -> Floats:
        chance = generator.binomial(counts, accuracy, (draws, len(counts))) / counts - accuracy
        errors: Floats = np.abs(accuracy + noise * chance - said) @ weights
        return errors

    observed, tail = float(np.abs(seen - said) @ weights), (1 - level) / 2
    shown = [drawn(said + share * (seen - said)) for share in SHARES]
    middle, most = (
        np.maximum.accumulate([np.quantile(errors, q) for errors in shown]) for q in (0.5, 1 - tail)
    )
    value, low = (observed * float(np.interp(observed, curve, SHARES)) for curve in (middle, most))
    smoothed = (seen * counts + 0.5) / (counts + 1)  # no bin is taken to be always right
    return {"value": value, "low": min(low, value), "high": float(np.quantile(drawn(smoothed), 1 - tail))}
