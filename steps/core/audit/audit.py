"""The audit of a data set that can be read: copies, leaks, shortcuts, doubtful labels, drift."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.core.audit.label_suspects import FOLDS, drift, label_suspects
from steps.core.audit.leaks import find_copies, judge_copies
from steps.core.audit.limits import Limits
from steps.core.audit.shortcuts import canary, canary_of_sets
from steps.core.data.findings import report
from steps.core.features.probe import hits, linear_probe
from steps.core.modalities.contract import Modality
from steps.core.modalities.parts import Scan
from steps.core.tasks.labelling import ONE_LABEL, Labelling


@dataclass(frozen=True)
class Audit:
    """What was found, and the table without what a repair leaves out."""

    findings: list[dict[str, Any]]
    suspects: pd.DataFrame
    repaired: pd.DataFrame
    worth: dict[str, float] | None
    """Accuracy of a probe on the held-out files, trained with and without the twins that leak."""


@dataclass(frozen=True)
class Examined:
    """What is known of readable samples beside their rows, and by which modality."""

    modality: Modality
    settings: Any
    """Of the modality; see params.yaml."""
    scan: Scan
    z: NDArray[np.float16]
    """Embeddings of the first rows, which are compared with one another (audited, features)."""


def audit(
    table: pd.DataFrame,
    examined: Examined,
    limits: Limits,
    seed: int,
    labelling: Labelling = ONE_LABEL,
) -> Audit:
    """Examine readable samples (sorted by digest: the head of the table is a random part of it).

    Args:
        table: The manifest's rows (samples).
        examined: What is known of them.
        limits: See params.yaml.
        seed: Of folds and shuffles.
        labelling: How labels are read.
    """
    z = examined.z
    part = table.head(len(z)).reset_index(drop=True)
    copies, leaving = find_leaks(part, examined, limits)
    suspects = label_suspects(part, z, seed, limits.probe_samples, labelling)
    findings = [
        *names(table, labelling),
        *examined.modality.check(table, examined.scan, examined.settings),
        *copies,
        *shortcuts(part, examined, limits, seed, labelling),
        doubtful(suspects, part, limits),
        imbalance(table, limits, labelling),
        *drifts(part, z, limits, seed),
    ]
    repaired = table[~table["path"].isin(leaving)].reset_index(drop=True)
    return Audit(findings, suspects, repaired, worth_of(part, z, leaving, labelling))


def find_leaks(
    part: pd.DataFrame, examined: Examined, limits: Limits
) -> tuple[list[dict[str, Any]], set[str]]:
    """Return the findings about copies, and the paths without which there are none that do harm."""
    first: list[dict[str, Any]] = []
    leaving: set[str] = set()
    while True:  # once more without them: other neighbours come into view
        stays = np.flatnonzero(~part["path"].isin(leaving))
        rows = part.iloc[stays].reset_index(drop=True)
        pairs = find_copies(rows, stays, examined, limits.near_copy, limits.clearance)
        found = judge_copies(rows, pairs, limits.max_leaked)
        first = first or found
        more = {row["path"] for finding in found for row in finding["repair"]}
        if not more:
            return first, leaving
        leaving |= more


def names(table: pd.DataFrame, labelling: Labelling) -> list[dict[str, Any]]:
    """Look at the names of classes and files."""
    labels = pd.Series(sorted(labelling.members(table["label"].astype(str)).unique()))
    alike = labels[
        labels.str.casefold().str.strip().str.replace(r"[\s_-]+", " ", regex=True).duplicated(keep=False)
    ]
    foreign = [path for path in table["path"] if not path.isascii()]
    plain = table["path"].map(lambda path: unicodedata.normalize("NFC", path).casefold())
    return [
        report(
            "file names differ in more than case and accents' spelling", "warn",
            list(table["path"][plain.duplicated(keep=False)]), len(table),
            "rename them: on other file systems they are one file",
        ),
        report(
            "class names differ in more than case and spaces", "fail", list(alike), len(labels),
            "rename the folders: they are one class under several names",
        ),
        report("file names are plain ASCII", "warn", foreign, len(table), "rename them if a tool stumbles"),
    ]  # fmt: skip


def leftovers(overlooked: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Name what lies in the folder and was not taken."""
    remedies = {
        "hidden": "nothing, if they are not part of the data",
        "no sample": "nothing, if they are not part of the data; else give them the ending of what they are",
        "empty folder": "add samples, or remove the folder: there is no such class",
        "link out": "copy the files into the folder: nothing outside of it is read",
    }
    return [
        report(f"nothing is left aside: {reason}", "warn", overlooked.get(reason, []), 0, remedy)
        for reason, remedy in remedies.items()
    ]


def shortcuts(
    table: pd.DataFrame, examined: Examined, limits: Limits, seed: int, labelling: Labelling
) -> list[dict[str, Any]]:
    """Run the canaries on the training samples."""
    rows = np.flatnonzero(table["split"] == "train")[: limits.probe_samples]
    cells = table["label"].iloc[rows]
    known = sorted(labelling.members(cells).unique())
    y = labelling.encode(cells, known)
    findings = []
    for shortcut in examined.modality.shortcuts(table, examined.scan, rows):
        found = (canary if y.ndim == 1 else canary_of_sets)(shortcut.x, y, limits.permutations, seed)
        sings = found["p"] is not None and found["p"] <= limits.canary_level
        says = "not measured" if found["p"] is None else (
            f"balanced accuracy {found['accuracy']:.3f}, chance {found['chance']:.3f}, p = {found['p']:.3f}"
        )  # fmt: skip
        if "label" in found:
            says += f", of the label that is told best, {known[found['label']]}"
        row = report(
            f"the class cannot be told from {shortcut.what}", "warn", ["the data set"] if sings else [], 1,
            shortcut.remedy, values=[says], worth=says,
        )  # fmt: skip
        findings.append({**row, "observed": says, "canary": found})
    return findings


def doubtful(suspects: pd.DataFrame, table: pd.DataFrame, limits: Limits) -> dict[str, Any]:
    """Accuse labels; the list is a .csv that a person corrects and gives back."""
    share = len(suspects) / max(1, len(table))
    rows = zip(suspects["label"], suspects["suggested"], suspects["self_confidence"], strict=True)
    row = report(
        "no label looks wrong", "warn", list(suspects["path"]), len(table),
        "correct suspects.csv by hand and set ingest_data.corrections to it",
        values=[f"{label}, rather {other} ({sure:.2f})" for label, other, sure in rows],
        worth=f"{share:.1%} of the labels",
    )  # fmt: skip
    return row if share > limits.max_suspects else {**row, "verdict": "pass"}


def imbalance(table: pd.DataFrame, limits: Limits, labelling: Labelling = ONE_LABEL) -> dict[str, Any]:
    """Compare the sizes of the classes in train."""
    counts = labelling.members(table["label"][table["split"] == "train"]).value_counts()
    ratio = counts.max() / max(1, counts.min())
    rare = [str(name) for name in counts.index[counts * limits.max_imbalance < counts.max()]]
    row = report(
        "no class is many times another", "warn", rare, len(counts),
        "add samples of these classes; read macro F1, not accuracy",
    )  # fmt: skip
    return {**row, "observed": f"{ratio:.1f} times"}


def drifts(table: pd.DataFrame, z: NDArray[np.float16], limits: Limits, seed: int) -> list[dict[str, Any]]:
    """Ask whether held-out samples can be told from training ones."""
    findings = []
    train = (table["split"] == "train").to_numpy()
    for split in ("val", "test"):
        held = (table["split"] == split).to_numpy()
        if min(train.sum(), held.sum()) < 2 * FOLDS:
            continue
        found = drift(z, train, held, seed, limits.probe_samples)
        says = f"AUC {found['auc']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
        row = report(
            f"{split} looks like train", "warn",
            ["the data set"] if found["low"] > limits.max_drift else [], 1,
            "draw the splits from one pool, or know that the figures are about another population",
            worth=says,
        )  # fmt: skip
        findings.append({**row, "observed": says})
    return findings


def worth_of(
    table: pd.DataFrame, z: NDArray[np.float16], leaving: set[str], labelling: Labelling
) -> dict[str, float] | None:
    """Return a probe's accuracy on the held-out files that stay, trained with and without the leaks."""
    train = (table["split"] == "train").to_numpy()
    stays = ~table["path"].isin(leaving).to_numpy()
    held = (table["split"] == "test").to_numpy() & stays
    if stays.all() or not held.any() or table["label"][train & stays].nunique() < 2:
        return None
    y = labelling.encode(table["label"], sorted(labelling.members(table["label"]).unique()))
    asked = z[held].astype(np.float64)
    leaky, clean = (
        float(hits(linear_probe(z[rows].astype(np.float64), y[rows], asked), y[held]).mean())
        for rows in (train, train & stays)
    )
    return {"leaky": leaky, "repaired": clean, "difference": leaky - clean, "samples": int(held.sum())}
