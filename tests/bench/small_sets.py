"""Challengers on few samples, or on groups of samples, where not every ruling can be right; see `rulings`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from steps.core.promotion.gates import compare_with_champion
from steps.core.tasks.metrics import SingleLabelPredictions
from tests.bench.intervals import drawn_answers
from tests.core.toys import split_logits

MARGINS = {"champion_margin": 0.0, "class_margin": 0.05, "calibration_margin": 0.02, "bootstrap": 200}
Gates = list[dict[str, Any]]


def equal(classes: int, per_class: int, grouped: bool, seed: int) -> Gates:
    """Meet a champion that is exactly as good."""
    generator = np.random.default_rng([classes, per_class, grouped, seed])
    old, new = (drawn_answers(classes, per_class, grouped, generator) for _ in range(2))
    return compare_with_champion(old, new, [str(k) for k in range(classes)], {**MARGINS, "seed": seed})


def halved(per_class: int, seed: int) -> Gates:
    """Know four classes of five as the champion does, in 95 %, and half of what it knows of the last."""
    generator = np.random.default_rng([per_class, seed])
    labels = np.repeat(np.arange(5), per_class)
    before = generator.random(len(labels)) < 0.95
    after = before & ((labels < 4) | (generator.random(len(labels)) < 0.5))
    old, new = (
        SingleLabelPredictions(split_logits(labels, 5, right, 4.0), labels, 1.0) for right in (before, after)
    )
    return compare_with_champion(old, new, list("abcde"), {**MARGINS, "seed": seed})


LOST = ["no class has lost recall"]
SMALL_SETS: Mapping[str, tuple[Callable[[int], Gates], list[str], int]] = {
    "equal, 5 classes of 80": (lambda seed: equal(5, 80, False, seed), ["beats champion"], 18),
    "equal, 38 classes of 1": (lambda seed: equal(38, 1, False, seed), ["beats champion"], 18),
    "equal, 5 classes of 6 groups of five": (lambda seed: equal(5, 6, True, seed), ["beats champion"], 18),
    "one class halved, of 10": (lambda seed: halved(10, seed), LOST, 0),
    "one class halved, of 20": (lambda seed: halved(20, seed), LOST, 15),
    "one class halved, of 50": (lambda seed: halved(50, seed), LOST, 20),
}
"""Who meets such a champion, the gates that must fail, and in how many of 20 times at least they do."""
