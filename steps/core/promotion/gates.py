"""The promotion gates. Every gate is checked and listed, also after one has failed."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from steps.core.evaluation.evaluation import Model
from steps.core.export.parity import INT8, ParityResult
from steps.core.promotion.class_losses import LOST, class_losses, losses_note
from steps.core.promotion.succession import common_ground
from steps.core.tasks.comparisons import paired_differences, paired_test, swap_test_p
from steps.core.tasks.metrics import Floats
from steps.core.tasks.predictions import Bools, Predictions

LEVEL = 0.90  # a two-sided 90 % interval's ends are one-sided 95 % bounds
ALPHA = 0.05  # of the exact tests
EXCHANGES = 199  # of answers, in the test of label sets
SHOWN = 5  # classes that the gate lists


SINGLE = (("accuracy", "at least", "min_accuracy"), ("macro_f1", "at least", "min_macro_f1"))
MULTILABEL = (
    ("macro_auroc", "at least", "min_macro_auroc"),
    ("map", "at least", "min_map"),
    ("macro_f1", "at least", "min_macro_f1"),
)


def metric_gates(metrics: Mapping[str, Any], limits: Mapping[str, Any], verdict: str) -> list[dict[str, Any]]:
    """Compare the metrics of the test set, and the audit of the data, with the limits in the params."""
    limits_of_metrics = (*(MULTILABEL if "map" in metrics else SINGLE), ("ece", "low at most", "max_ece"))
    return [
        *(gate(name, metrics[name], sense, limits[key]) for name, sense, key in limits_of_metrics),
        {
            **gate("data not rejected", exact_figure(float(verdict != "fail")), "at least", 1.0),
            "note": verdict,
        },
    ]


def deployment_gates(mine: ParityResult, test_uses: int, limits: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Check the float32 file that production would run, and how often the test set was used.

    The file must agree with the model that was judged, and fit the budget. Other files are not gated: one
    that does not agree is withheld; see `withheld`.
    """
    rows = parity_gates(mine, limits["parity"][mine.file.variant])
    for name, value, key in (
        ("megabytes", mine.facts["megabytes"], "max_megabytes"),
        ("latency p50, ms", mine.latency["latency_p50_ms"], "max_latency_ms"),
        ("models judged on the test set", float(test_uses), "max_test_uses"),
    ):
        if limits[key] is not None:
            rows.append(gate(name, exact_figure(value), "at most", limits[key]))
    return rows


def withheld(one: ParityResult, limits: Mapping[str, Any]) -> str:
    """Return why a file is not registered: how it differs from the judged model; empty where it agrees."""
    failed = [row for row in parity_gates(one, limits["parity"][one.file.variant]) if not row["passed"]]
    return "; ".join(
        f"{row['gate'].rpartition(', ')[2]}: {row['note']} {row['found']['value']:.4g}, "
        f"needed {row['sense']} {row['limit']:g}"
        for row in failed
    )


def parity_gates(one: ParityResult, limits: Mapping[str, float]) -> list[dict[str, Any]]:
    """Hold a file to the model it was made from, on all test samples, at three levels.

    A conversion must be exact, so the largest difference of any sample counts; quantisation loses on
    purpose, so there the mean counts.
    """
    kind = "mean" if one.file.variant == INT8 else "largest"
    levels = (
        ("logits", f"{kind}_logit_difference", "at most", f"{kind} difference, in standard deviations"),
        ("probabilities", f"{kind}_difference", "at most", f"{kind} difference"),
        ("top1", "agreement", "at least", "same answers"),
    )
    return [
        {
            **gate(f"parity: {one.file.name}, {level}", exact_figure(one.facts[fact]), sense, limits[level]),
            "note": note,
        }
        for level, fact, sense, note in levels
    ]


MEASURED = ("latency p50, ms", "models judged on the test set")
"""Gates whose figure differs from run to run."""


COMPARISONS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "at least": ("value", operator.ge),
    "at most": ("value", operator.le),
    "low above": ("low", operator.gt),
    "high above": ("high", operator.gt),
    "low at most": ("low", operator.le),
}
"""What a gate's sense holds against the limit: the figure itself, or one end of its interval."""


def gate(name: str, found: Mapping[str, float], sense: str, limit: float) -> dict[str, Any]:
    """Return a gate with its evidence; see `COMPARISONS`."""
    figure, compare = COMPARISONS[sense]
    passed = bool(compare(found[figure], limit))
    return {"gate": name, "found": dict(found), "sense": sense, "limit": limit, "passed": passed}


def exact_figure(value: float) -> dict[str, float]:
    """Return a figure that has no uncertainty."""
    return {"value": value, "low": value, "high": value}


def champion_gates(
    champion: Model,
    logits: Floats,
    challenger: Predictions,
    labels: list[str],
    cfg: Mapping[str, Any],
    unknown: Bools | None = None,
    because: str = "",
) -> list[dict[str, Any]]:
    """Hold the gates between the champion, by its logits of the test samples, and the challenger.

    They are compared on the images that neither has learnt from (`unknown`, a mask; None: all of them) and
    on the classes that both know, as `promote` says; see `steps.core.promotion.succession`. Where nothing
    can be compared, or fewer images than `min_unknown` are left, the one gate that fails says why;
    `because` says in words how many images each has learnt from.
    """
    rows = np.ones(len(challenger.labels), dtype=bool) if unknown is None else unknown
    ground = common_ground(champion.meta, logits, challenger, labels, rows, cfg)
    if isinstance(ground, str):
        row = {"gate": "beats champion", "found": exact_figure(0.0), "sense": "same labels", "limit": 0.0}
        return [{**row, "passed": False, "note": ground}]
    held = []
    if unknown is not None:
        left = exact_figure(float(len(ground.challenger.labels)))
        row = gate("test images unknown to both", left, "at least", cfg["min_unknown"])
        held = [{**row, "note": because if row["passed"] else f"too few to be compared on: {because}"}]
        if not row["passed"]:
            return held
    first, *others = compare_with_champion(ground.champion, ground.challenger, ground.names, cfg)
    note = "; ".join(filter(None, (first.get("note"), ground.said)))
    return [*held, {**first, "note": note}, *others]


def compare_with_champion(
    old: Predictions, new: Predictions, labels: list[str], cfg: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Hold the gates between two models' answers to the same test samples, champion first.

    - The lower one-sided 95 % bound of the accuracy gained, of label sets the mean average precision, is
      above `champion_margin`, and an exact paired test says the same; see `gained_gate`.
    - No class is shown to have lost more than `class_margin` of recall; see `class_losses`.
    - The calibration error has not risen by more than `calibration_margin` beyond doubt.
    """
    found = paired_differences(new, old, cfg["bootstrap"], cfg["seed"], LEVEL, (new.main, "ece"))
    calibration_change = found["ece"]
    classes = class_losses(old, new, labels, cfg["class_margin"], ALPHA, LEVEL)
    lost = exact_figure(float(sum(row["verdict"] == LOST for row in classes)))
    return [
        gained_gate(old, new, found[new.main], cfg),
        {
            **gate("no class has lost recall", lost, "at most", 0.0),
            "note": losses_note(classes, SHOWN),
            "classes": classes[:SHOWN],
        },
        gate("calibration", calibration_change, "low at most", cfg["calibration_margin"]),
    ]


def gained_gate(
    old: Predictions, new: Predictions, gained: Mapping[str, float], cfg: Mapping[str, Any]
) -> dict[str, Any]:
    """Hold the gain of the main metric: its interval, and where it must be above 0, the exact paired test.

    The test is McNemar's, by groups where there are groups, and of label sets an exchange of answers. Where
    `champion_margin` is negative, a challenger may be somewhat worse, and the interval alone decides.
    """
    row = gate("beats champion", gained, "low above", cfg["champion_margin"])
    test, groups = paired_test(new, old), len(np.unique(new.groups))
    kind = "exact test by groups" if groups < len(new.labels) else "McNemar's exact test"
    p = test["p_better"]
    if new.main != "accuracy":
        p, kind = swap_test_p(new, old, EXCHANGES, cfg["seed"]), "exchanged answers"
    note = f"{test['only_first']} won, {test['only_second']} lost, {kind}: p = {p:.3g}, one-sided"
    if groups < len(new.labels):
        note += f"; {groups} groups" + (", too few to tell" if 0.5**groups > ALPHA else "")
    row["passed"] &= cfg["champion_margin"] < 0 or p <= ALPHA
    return {**row, "note": note}
