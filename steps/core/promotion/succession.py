"""What champion and challenger can be compared on where their classes differ, or why they cannot be.

A class that only the challenger knows is new; one that only the champion knows is lost; a class with
another name is the same one where `promote.renamed` says so, and else lost and new. What each of that
amounts to is a choice in params.yaml, and is written beside the gate.

Of single labels, the rows of the common classes are compared, and both models may answer with any class
that they know: a challenger that takes old samples for the new class is wrong. Of label sets, each label
is a question of its own: the common ones are compared, on all rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steps.core.tasks.label_sets import LabelSetPredictions
from steps.core.tasks.metrics import SingleLabelPredictions
from steps.core.tasks.predictions import Bools, Floats, Predictions
from steps.core.tasks.targets import kind_for, kind_for_model
from steps.core.tasks.thresholds import predictions_of

LISTED = 5  # classes that are named
ELSE = "set promote.name to register another model"


@dataclass(frozen=True)
class Ground:
    """Both models' answers to the same rows and classes."""

    champion: Predictions
    challenger: Predictions
    names: list[str]
    """Of the classes that the answers are about."""
    said: str
    """What was left out, in words; empty where nothing was."""
    rows: Bools
    """Which of the test images these are (n,)."""


def common_ground(
    meta: Mapping[str, Any],
    logits: Floats,
    challenger: Predictions,
    labels: Sequence[str],
    rows: Bools,
    cfg: Mapping[str, Any],
) -> Ground | str:
    """Return what can be compared, or in words why nothing can.

    Args:
        meta: The champion's.
        logits: The champion's, of all test images (n, its classes).
        challenger: Its answers to all test images.
        labels: The challenger's classes.
        rows: Which test images may be compared (n,).
        cfg: renamed, on_new_classes, on_lost_classes; looked at only where the classes differ.
    """
    if kind_for_model(dict(meta)) is not kind_for(challenger.labels):
        return f"one answers with one label, the other with sets: {ELSE}"
    if list(meta["labels"]) == list(labels):
        champion = predictions_of(logits[rows], challenger.labels[rows], meta, challenger.groups[rows])
        own = reading(challenger, challenger.logits[rows], rows)
        return Ground(champion, own, list(labels), "", rows)
    known = [str(cfg["renamed"].get(name, name)) for name in meta["labels"]]
    if why := refusal(known, labels, cfg):
        return why
    if isinstance(challenger, LabelSetPredictions):
        return shared_labels(meta, known, logits, challenger, labels, rows)
    return shared_rows(meta, known, logits, challenger, labels, rows)


def refusal(known: Sequence[str], labels: Sequence[str], cfg: Mapping[str, Any]) -> str:
    """Say why models of these classes are not compared; empty where they are."""
    new, lost = (missing(*pair) for pair in ((labels, known), (known, labels)))
    if len(set(known)) < len(known):
        return "promote.renamed gives two of the champion's classes one name: name each apart"
    if lost and cfg["on_lost_classes"] == "refuse":
        return (
            f"the champion knows {listed(lost)}, which the data set no longer has: if one has a new name, "
            "say so in promote.renamed; if it is to be given up, set promote.on_lost_classes to "
            f"compare_common; else {ELSE}"
        )
    if new and cfg["on_new_classes"] == "refuse":
        return (
            f"the champion does not know {listed(new)}: set promote.on_new_classes to compare_common; else "
            f"{ELSE}"
        )
    return ""


def shared_rows(
    meta: Mapping[str, Any],
    known: Sequence[str],
    logits: Floats,
    challenger: Predictions,
    labels: Sequence[str],
    rows: Bools,
) -> Ground | str:
    """Compare single labels: the rows of the common classes, any answer. See `common_ground`."""
    common = [name for name in labels if name in known]
    if len(common) < 2:
        return f"they have {len(common)} class(es) in common, expected at least two: {ELSE}"
    names = [*labels, *missing(known, labels)]
    of_common = np.isin(challenger.labels, [labels.index(name) for name in common])
    kept = rows & of_common
    truth = challenger.labels[kept]
    champion = predictions_of(spread(logits[kept], known, names), truth, meta, challenger.groups[kept])
    own = reading(challenger, spread(challenger.logits[kept], labels, names), kept)
    told = f"{of_common.sum()} of {len(rows)} test images are of them"
    return Ground(champion, own, names, said_of(common, known, labels, told), kept)


def shared_labels(
    meta: Mapping[str, Any],
    known: Sequence[str],
    logits: Floats,
    challenger: LabelSetPredictions,
    labels: Sequence[str],
    rows: Bools,
) -> Ground | str:
    """Compare label sets: the common labels, on all rows. See `common_ground`."""
    common = [name for name in labels if name in known]
    if not common:
        return f"they have no label in common: {ELSE}"
    theirs, ours = ([names.index(name) for name in common] for names in (list(known), list(labels)))
    truth = challenger.labels[rows][:, ours]
    thresholds = np.array(meta["thresholds"])[theirs]
    groups = challenger.groups[rows]
    champion = LabelSetPredictions(logits[rows][:, theirs], truth, meta["temperature"], thresholds, groups)
    own = LabelSetPredictions(
        challenger.logits[rows][:, ours], truth, challenger.temperature, challenger.thresholds[ours], groups
    )
    return Ground(champion, own, common, said_of(common, known, labels, "on all test images"), rows)


def reading(answers: Predictions, logits: Floats, rows: Bools) -> Predictions:
    """Return a model's answers to some rows, by logits that are given for these."""
    labels, groups = answers.labels[rows], answers.groups[rows]
    if isinstance(answers, LabelSetPredictions):
        return LabelSetPredictions(logits, labels, answers.temperature, answers.thresholds, groups)
    assert isinstance(answers, SingleLabelPredictions)
    return SingleLabelPredictions(logits, labels, answers.temperature, groups)


def spread(logits: Floats, own: Sequence[str], names: Sequence[str]) -> Floats:
    """Return logits (n, own classes) under more names (n, names), of which a model never says the others."""
    wide = np.full((len(logits), len(names)), -np.inf)
    wide[:, [names.index(name) for name in own]] = logits
    return wide


def missing(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the names that are not among the others."""
    return [name for name in names if name not in others]


def said_of(common: Sequence[str], known: Sequence[str], labels: Sequence[str], told: str) -> str:
    """Put into words what was compared; empty where both know the same classes."""
    new, lost = missing(labels, known), missing(known, labels)
    if not new and not lost:
        return ""
    apart = [f"{what}: {listed(names)}" for what, names in (("new", new), ("given up", lost)) if names]
    return f"compared by the classes that both know ({listed(common)}; {told}); {'; '.join(apart)}"


def listed(names: Sequence[str]) -> str:
    """Name the first few."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
