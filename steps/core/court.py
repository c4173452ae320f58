"""The gates of promotion. Every gate is held and listed, also after one has failed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from steps.core.answers import Answers
from steps.core.deploy import FP32, INT8, Exported
from steps.core.evaluation import Model
from steps.core.files import Folder
from steps.core.labels import Labelling
from steps.core.metrics import compare, interval, mcnemar
from steps.core.predict import predict_paths
from steps.core.targets import of_model
from steps.core.thresholds import outcome_of

LEVEL = 0.90  # a two-sided 90 % interval's ends are one-sided 95 % bounds
SHOWN = 5  # classes that the gate lists


class Data(Protocol):
    """The data set, as an artifact holds it."""

    @property
    def root(self) -> str:
        """Where the files are."""
        ...

    @property
    def labels(self) -> list[str]:
        """The class names."""
        ...

    @property
    def labelling(self) -> Labelling:
        """How the column of labels is read."""
        ...

    @property
    def verdict(self) -> str:
        """What the audit came to: pass, warn or fail."""
        ...

    def part(self, split: str) -> pd.DataFrame:
        """Return the rows of one split."""
        ...


SINGLE = (("accuracy", "at least", "min_accuracy"), ("macro_f1", "at least", "min_macro_f1"))
MULTILABEL = (
    ("macro_auroc", "at least", "min_macro_auroc"),
    ("map", "at least", "min_map"),
    ("macro_f1", "at least", "min_macro_f1"),
)


def hold_gates(metrics: Mapping[str, Any], limits: Mapping[str, Any], verdict: str) -> list[dict[str, Any]]:
    """Compare the metrics of the test set, and the audit of the data, with the limits in the params."""
    held = (*(MULTILABEL if "map" in metrics else SINGLE), ("ece", "at most", "max_ece"))
    return [
        *(gate(name, metrics[name], sense, limits[key]) for name, sense, key in held),
        {**gate("data not rejected", exactly(float(verdict != "fail")), "at least", 1.0), "note": verdict},
    ]


def deployment_gates(
    exported: Sequence[Exported], candidate: str, looks: int, limits: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Hold what was measured of the files that production would run, and how often test was looked at.

    Every file must agree with the model that was judged; the candidate's must also fit the budget.
    """
    rows = []
    for one in exported:
        agreement = exactly(one.facts["agreement"])
        if one.variant == INT8:
            rows.append(gate(f"parity: {one.name}", agreement, "at least", limits["min_agreement"]))
            continue
        gap = exactly(one.facts["largest_difference"])
        row = gate(f"parity: {one.name}", gap, "at most", limits["max_difference"])
        same = one.facts["agreement"] == 1.0
        note = "largest difference of a probability" + ("" if same else "; answers differ")
        rows.append({**row, "passed": row["passed"] and same, "note": note})
    mine = next(one for one in exported if (one.model, one.variant) == (candidate, FP32))
    for name, value, key in (
        ("megabytes", mine.facts["megabytes"], "max_megabytes"),
        ("latency p50, ms", mine.clock["latency_p50_ms"], "max_latency_ms"),
        ("looks at the test set", float(looks), "max_looks"),
    ):
        if limits[key] is not None:
            rows.append(gate(name, exactly(value), "at most", limits[key]))
    return rows


MEASURED = ("latency p50, ms", "looks at the test set")
"""Gates whose figure is never the same twice."""


def gate(name: str, found: Mapping[str, float], sense: str, limit: float) -> dict[str, Any]:
    """Return a gate with its evidence."""
    passed = found["value"] >= limit if sense == "at least" else found["value"] <= limit
    return {"gate": name, "found": dict(found), "sense": sense, "limit": limit, "passed": passed}


def exactly(value: float) -> dict[str, float]:
    """Return a figure that has no uncertainty."""
    return {"value": value, "low": value, "high": value}


def meet_champion(
    champion: Model, challenger: Model, data: Data, cfg: Mapping[str, Any], scratch: Path
) -> list[dict[str, Any]]:
    """Let challenger and champion predict the same test images, and hold the gates between them.

    One with other labels than the champion's, or one label against sets of them, cannot be compared, and
    fails.
    """
    kinds = (of_model(model.meta) for model in (champion, challenger))
    if champion.meta["labels"] != challenger.meta["labels"] or len(set(kinds)) > 1:
        note = f"champion knows {champion.meta['labels']}: set promote.name to register another model"
        row = {"gate": "beats champion", "found": exactly(0.0), "sense": "same labels", "limit": 0.0}
        return [{**row, "passed": False, "note": note}]
    rows = data.part("test")
    truth = data.labelling.encode(rows["label"], data.labels)
    folder = Folder(data.root, scratch)
    old, new = (
        outcome_of(predict_paths(model.network(), model.look, folder, list(rows["path"])), truth, model.meta)
        for model in (champion, challenger)
    )
    return duel(old, new, data.labels, cfg)


def duel(old: Answers, new: Answers, labels: list[str], cfg: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Hold the gates between two models' answers to the same test images, champion first.

    - The lower one-sided 95 % bound of the accuracy gained, of label sets the mean average precision, is
      above `champion_margin`.
    - No class's recall is shown to have fallen by more than `class_margin`: the upper bound of its gain,
      at 95 % for all classes together (Bonferroni), stays above minus the margin.
    - The calibration error has not risen by more than `calibration_margin` beyond doubt.
    """
    found = compare(new, old, cfg["bootstrap"], cfg["seed"], LEVEL)
    gained, blurred = found[new.main], found["ece"]
    test = mcnemar(new, old)
    told = f"McNemar: {test['only_first']} won, {test['only_second']} lost, p = {test['p']:.3g}"
    classes = class_gains(old, new, labels, cfg["bootstrap"], cfg["seed"])
    worst = classes[0]
    facing = {name: worst[name] for name in ("value", "low", "high")}
    return [
        {
            **verdict("beats champion", gained, "low above", cfg["champion_margin"], gained["low"]),
            "note": told,
        },
        {
            **verdict("no class is lost", facing, "high above", -cfg["class_margin"], worst["high"]),
            "note": f"worst: {worst['class']}",
            "classes": classes[:SHOWN],
        },
        verdict("calibration", blurred, "low at most", cfg["calibration_margin"], blurred["low"]),
    ]


def verdict(name: str, found: Mapping[str, float], sense: str, limit: float, bound: float) -> dict[str, Any]:
    """Return a gate between two models, held by one end of an interval."""
    passed = bool(bound <= limit if sense.endswith("at most") else bound > limit)
    return {"gate": name, "found": dict(found), "sense": sense, "limit": limit, "passed": passed}


def class_gains(old: Answers, new: Answers, labels: list[str], draws: int, seed: int) -> list[dict[str, Any]]:
    """Return each class's gain in recall with an interval, the one that has lost most for sure first.

    A test of means within a class, by bootstrap, at 5 % over all classes; a class with a handful of
    samples can hardly be shown to have lost anything, and says so by its interval.
    """
    present = np.flatnonzero(old.own.any(axis=1))
    level = 1 - 2 * (1 - 0.95) / len(present)
    generator = np.random.default_rng(seed)
    rows = []
    for number in present:
        mine = old.own[number]
        gap = new.says[number, mine].astype(np.float64) - old.says[number, mine]
        drawn = gap[generator.integers(0, len(gap), (draws, len(gap)))].mean(axis=1)
        row = interval(drawn, float(gap.mean()), level)
        rows.append({"class": labels[number], "samples": len(gap), **row})
    return sorted(rows, key=lambda row: row["high"])
