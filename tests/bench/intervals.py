"""`python -m tests.bench.intervals`: how often intervals cover, and equal challengers pass, by simulation.

Test sets of 2 to 200 classes with 1 to 20 samples a class, or as many groups of five samples, are drawn
again and again. Some classes are harder than others, and so are some groups. A rate holds where it is nominal
within two standard errors of the simulation: intervals cover at least 95 %, an equal challenger beats the
champion in at most 5 %.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from steps.core.promotion.class_losses import LOST, class_losses
from steps.core.promotion.gates import ALPHA, LEVEL
from steps.core.tasks.comparisons import accuracy_difference, paired_test
from steps.core.tasks.intervals import metric_intervals, share_of
from steps.core.tasks.metrics import SingleLabelPredictions

OUT = Path("artifacts/bench/intervals.json").absolute()
CLASSES, PER_CLASS = (2, 10, 50, 200), (1, 2, 3, 5, 20)
GROUP, ALIKE = 5, 0.3  # samples of a group, and the correlation of their being answered rightly
BOOTSTRAPPED = 400  # samples up to which the figures that need resamples are simulated
DRAWS, RESAMPLES = 1000, 100


@dataclass(frozen=True)
class Rate:
    """How often something happened that should happen at least, or at most, that often."""

    what: str
    classes: int
    per_class: int
    grouped: bool
    rate: float
    bound: float
    least: bool
    draws: int

    @property
    def holds(self) -> bool:
        """Whether it is nominal within two standard errors."""
        slack = 2 * float(np.sqrt(self.bound * (1 - self.bound) / self.draws))
        return self.rate >= self.bound - slack if self.least else self.rate <= self.bound + slack


def drawn_answers(
    classes: int, per_class: int, grouped: bool, generator: np.random.Generator
) -> SingleLabelPredictions:
    """Return a calibrated model's answers to a new test set: class k is answered rightly in 0.6 to 0.95."""
    units = np.repeat(np.arange(classes), per_class)
    skill = np.linspace(0.6, 0.95, classes)[units]
    size = GROUP if grouped else 1
    if grouped:
        more = 1 / ALIKE - 1
        skill = generator.beta(skill * more, (1 - skill) * more)
    labels, skill = np.repeat(units, size), np.repeat(skill, size)
    right = generator.random(len(labels)) < skill
    said = np.where(right, labels, (labels + generator.integers(1, classes, len(labels))) % classes)
    mean = np.linspace(0.6, 0.95, classes).mean()
    margin = np.log(mean / (1 - mean) * (classes - 1))
    logits = np.eye(classes)[said] * margin + generator.normal(0, 0.01, (len(labels), classes))
    groups = np.repeat(np.arange(len(units)), size)
    return SingleLabelPredictions(logits, labels, 1.0, groups if grouped else None)


def simple_events(classes: int, per_class: int, grouped: bool, draws: int) -> Iterator[dict[str, bool]]:
    """Yield, per test set, what holds for the accuracy and for two equally good models."""
    generator = np.random.default_rng([classes, per_class, grouped])
    truth, names = np.linspace(0.6, 0.95, classes).mean(), [str(k) for k in range(classes)]
    for _ in range(draws):
        one, other = (drawn_answers(classes, per_class, grouped, generator) for _ in range(2))
        found = share_of(one.correct, one.groups)
        gain = accuracy_difference(one, other, LEVEL)
        yield {
            "accuracy is covered": found["low"] <= truth <= found["high"],
            "an equal challenger beats the champion": gain["low"] > 0
            and paired_test(one, other)["p_better"] <= ALPHA,
            "an equal challenger is said to have lost a class": any(
                row["verdict"] == LOST for row in class_losses(one, other, names, 0.0, ALPHA, LEVEL)
            ),
        }


def covered(classes: int, per_class: int, grouped: bool, draws: int, resamples: int) -> dict[str, float]:
    """Return how often the intervals of other metrics cover their mean over all test sets.

    The calibration error's is that of a calibrated model, of which its lower end should say nothing.
    """
    generator = np.random.default_rng([classes, per_class, grouped, 1])
    found = []
    for seed in range(draws):
        found.append(metric_intervals(drawn_answers(classes, per_class, grouped, generator), resamples, seed))
    rates = {}
    for name in ("macro_f1", "balanced_accuracy", "macro_auroc", "nll"):
        truth = np.mean([one[name]["value"] for one in found])
        rates[name] = float(np.mean([one[name]["low"] <= truth <= one[name]["high"] for one in found]))
    rates["ece of a calibrated model"] = float(np.mean([one["ece"]["low"] <= 0.005 for one in found]))
    return rates


def measure(classes: int, per_class: int, grouped: bool, draws: int, bootstrap: int) -> list[Rate]:
    """Return the rates of one kind of test set, with `bootstrap` resamples (0: without what needs them)."""
    cell = (classes, per_class, grouped)
    events = list(simple_events(*cell, draws))
    rows = []
    for what in events[0]:
        rate = float(np.mean([event[what] for event in events]))
        least = what.endswith("covered")
        rows.append(Rate(what, *cell, rate, 0.95 if least else ALPHA, least, draws))
    if bootstrap:
        rates = covered(*cell, draws, bootstrap)
        rows += [Rate(f"{name} is covered", *cell, rate, 0.95, True, draws) for name, rate in rates.items()]
    return rows


def main() -> None:
    """Print and write the rates of all kinds of test sets."""
    rows = []
    for grouped in (False, True):
        for classes in CLASSES:
            for per_class in PER_CLASS:
                small = classes * per_class * (GROUP if grouped else 1) <= BOOTSTRAPPED
                rows += measure(classes, per_class, grouped, DRAWS, RESAMPLES if small else 0)
    table = Table(
        "", "groups", "classes", *(f"{n} a class" for n in PER_CLASS), title=f"rates of {DRAWS} draws"
    )
    for what, grouped, classes in dict.fromkeys((row.what, row.grouped, row.classes) for row in rows):
        mine = {
            row.per_class: f"{row.rate:.3f}{'' if row.holds else ' NO'}"
            for row in rows
            if (row.what, row.grouped, row.classes) == (what, grouped, classes)
        }
        cells = (mine.get(n, "") for n in PER_CLASS)
        table.add_row(what, "of five" if grouped else "none", str(classes), *cells)
    Console(width=130).print(table)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps([{**asdict(row), "holds": row.holds} for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
