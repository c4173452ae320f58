"""What a model answered to samples and what is true, whatever kind of target they have."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Metric = Callable[[Any, Ints], float]
"""Takes answers of the kind it is for, and rows."""


class Predictions(Protocol):
    """What a model answered to n samples, and what is true; what all kinds of targets share."""

    labels: Ints
    groups: Ints
    """A number per sample (n,): samples of one group share it, and are no independent evidence."""
    logits: Floats
    uncalibrated: Floats
    """Probabilities (n, classes) before the temperature."""
    probabilities: Floats
    temperature: float
    nll: Floats
    """The loss of each sample (n,), in nats, after the temperature."""
    predicted: NDArray[Any]
    main: str
    """The metric by which models are compared."""
    validation_metrics: tuple[str, ...]
    """The metrics that are told of validation."""
    titles: Mapping[str, str]
    """What a metric is called where that depends on the kind of target."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The headline metrics."""

    @property
    def correct(self) -> Bools:
        """Whether the whole of each answer is right (n,)."""

    @property
    def confidence(self) -> Floats:
        """The probability of each answer (n,)."""

    @property
    def true_mask(self) -> Bools:
        """Whether a sample is of a class (classes, n)."""

    @property
    def predicted_mask(self) -> Bools:
        """Whether a sample was said to be of a class (classes, n)."""

    @property
    def ranking(self) -> tuple[Ints, Floats]:
        """See `rank_by_probability`."""

    def as_texts(self, labels: list[str]) -> list[str]:
        """Return each answer as text."""

    def with_logits(self, logits: Floats) -> "Predictions":
        """Return what other logits would have answered to the same samples."""

    def agreement(self, other: "Predictions") -> float:
        """Return the share of answers that two models have in common, 0 to 1."""

    def calibration_pairs(self, probabilities: Floats) -> tuple[Floats, Bools]:
        """Return probabilities of statements, and whether each is true, both flat."""


def rank_by_probability(true_mask: Bools, probabilities: Floats) -> tuple[Ints, Floats]:
    """Return rows in rising order of each class's probability, and 1 where the row is of the class.

    Both (2, classes, n): among equals, first the others come first, then the class's own.
    """
    orders = np.stack([np.lexsort((tie, probabilities.T), axis=-1) for tie in (true_mask, ~true_mask)])
    return orders, np.stack([np.take_along_axis(true_mask, order, 1) for order in orders]).astype(float)
