"""Challengers before a champion that does not know a class, or that knows test images; see `rulings`."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.core.audit.known_samples import Recognised, learnt, recognise
from steps.core.modalities.image.prints import SIDE
from steps.core.promotion.gates import champion_gates
from steps.core.system.code import ROOT
from steps.core.tasks.metrics import SingleLabelPredictions
from steps.runtime.phase import all_configs
from tests.core.toys import IMAGE

CLASSES, SAMPLES = 5, 400
NAMES = list("abcde")
NEW = "f"
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Gates = list[dict[str, Any]]


def settings(seed: int) -> dict[str, Any]:
    """Return the limits of params.yaml, with few resamples."""
    shipped = all_configs(ROOT / "params.yaml")["promote"].model_dump()
    return {**shipped, "bootstrap": 200, "seed": seed}


def answered(labels: Ints, skill: Floats, classes: int, seed: int) -> Floats:
    """Logits of a calibrated model that answers each sample rightly with a probability of its own."""
    draw = np.random.default_rng(seed)
    wrong = (labels + draw.integers(1, classes, len(labels))) % classes
    said = np.where(draw.random(len(labels)) < skill, labels % classes, wrong)
    sure = np.log(skill.mean() / (1 - skill.mean()) * (classes - 1))
    return np.eye(classes)[said] * sure + draw.normal(scale=0.05, size=(len(labels), classes))


class Champion:
    """A model of which nothing is asked but its classes and its temperature."""

    meta: Mapping[str, Any] = {"labels": NAMES, "temperature": 1.0}


def meet(
    old: Floats, new: SingleLabelPredictions, names: list[str], unknown: Any, said: str, seed: int
) -> Gates:
    """Let the challenger meet the champion."""
    return champion_gates(Champion(), old, new, names, settings(seed), unknown, said)  # type: ignore[arg-type]


def new_class(right: float, strays: float, seed: int) -> Gates:
    """Meet a champion of five classes that is right four times of five, where the data have a sixth.

    Of the old pictures, the challenger takes the share `strays` for the new class.
    """
    labels = np.random.default_rng(seed).integers(0, CLASSES + 1, SAMPLES)
    old = answered(labels, np.full(SAMPLES, 0.8), CLASSES, 100 * seed)
    logits = answered(labels, np.full(SAMPLES, right), CLASSES + 1, 100 * seed + 1)
    stray = (labels < CLASSES) & (np.random.default_rng(seed + 7).random(SAMPLES) < strays)
    logits[stray] = np.eye(CLASSES + 1)[CLASSES] * logits.max()
    every = np.ones(SAMPLES, dtype=bool)
    return meet(old, SingleLabelPredictions(logits, labels, 1.0), [*NAMES, NEW], every, "", seed)


def samples(first: int, count: int, saved_again: bool = False) -> pd.DataFrame:
    """Return digests and prints of pictures; saved again, a picture has other bytes and nearly its print."""
    rows = []
    for number in range(first, first + count):
        coarse = np.random.default_rng(number).integers(20, 235, (SIDE // 2, SIDE // 2))
        noise = np.random.default_rng(number + 10**6).integers(-4, 5, (SIDE, SIDE)) if saved_again else 0
        picture = (np.kron(coarse, np.ones((2, 2), np.int64)) + noise).astype(np.uint8)
        rows.append(
            {"sha256": f"{number}{'again' * saved_again}", "split": "train", "print": picture.tobytes()}
        )
    return pd.DataFrame(rows)


@cache
def known_part(by_bytes: int, by_print: int) -> Recognised:
    """Find again what the champion has learnt from: the first test images, some of them saved again since."""
    known = samples(0, by_bytes + by_print + 200)
    test = [samples(0, by_bytes), samples(by_bytes, by_print, saved_again=True)]
    fresh = samples(10_000, SAMPLES - by_bytes - by_print)
    asked = pd.concat([*test, fresh], ignore_index=True)
    shipped = settings(0)
    return recognise(IMAGE, asked, learnt(known), shipped["near_copy"], shipped["near_copy_margin"])


def known_test(right: float, by_bytes: int, by_print: int, seed: int) -> Gates:
    """Meet a champion that is right on nearly all test images that it knows, and on seven of ten others."""
    labels = np.random.default_rng(seed).integers(0, CLASSES, SAMPLES)
    found = known_part(by_bytes, by_print)
    knows = np.arange(SAMPLES) < by_bytes + by_print
    old = answered(labels, np.where(knows, 0.995, 0.7), CLASSES, 100 * seed)
    logits = answered(labels, np.full(SAMPLES, right), CLASSES, 100 * seed + 1)
    return meet(
        old, SingleLabelPredictions(logits, labels, 1.0), NAMES, ~found.any, found.said("the champion"), seed
    )


SUCCESSIONS: Mapping[str, tuple[Callable[[int], Gates], list[str]]] = {
    "better, with a new class": (lambda seed: new_class(0.93, 0.0, seed), []),
    "worse, with a new class": (lambda seed: new_class(0.7, 0.0, seed), ["beats champion"]),
    "better, but takes a third of the old for the new class": (
        lambda seed: new_class(0.93, 0.33, seed),
        ["beats champion"],
    ),
    "better than a champion that knows half the test": (lambda seed: known_test(0.87, 100, 100, seed), []),
    "worse than a champion that knows half the test": (
        lambda seed: known_test(0.6, 100, 100, seed),
        ["beats champion"],
    ),
    "better than a champion that knows nearly all of the test": (
        lambda seed: known_test(0.87, 190, 190, seed),
        ["test images unknown to both"],
    ),
}
"""Who meets such a champion, with the gates that must fail."""
