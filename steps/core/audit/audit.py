"""The audit of a data set that can be read: copies, leaks, shortcuts, doubtful labels, drift."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.core.audit.filename_groups import filename_groups
from steps.core.audit.identities import identity_findings
from steps.core.audit.label_suspects import FOLDS, label_suspects, two_sample_auc
from steps.core.audit.leaks import copy_findings, find_near_copies
from steps.core.audit.limits import Limits
from steps.core.audit.shortcuts import label_set_shortcut_test, shortcut_test
from steps.core.data.findings import make_finding, not_all
from steps.core.features.vectors import correct_fraction, linear_probe
from steps.core.modalities.contract import Modality
from steps.core.modalities.parts import Scan
from steps.core.tasks.labelling import ONE_LABEL, Labelling


@dataclass(frozen=True)
class Audit:
    """What was found, and the table without what a repair leaves out."""

    findings: list[dict[str, Any]]
    suspects: pd.DataFrame
    repaired: pd.DataFrame
    leak_impact: dict[str, float] | None
    """Accuracy of a probe on the held-out files, trained with and without the twins that leak."""


@dataclass(frozen=True)
class ReadableSamples:
    """What is known of readable samples beside their rows, and by which modality."""

    modality: Modality
    settings: Any
    """Of the modality; see params.yaml."""
    scan: Scan
    z: NDArray[np.float16]
    """Embeddings of the first rows, which are compared with one another (audited, features)."""


def audit(
    table: pd.DataFrame,
    examined: ReadableSamples,
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
    copies, removed = find_leaks(table, examined, limits)
    suspects = label_suspects(part, z, seed, limits.probe_samples, labelling)
    findings = [
        *check_names(table, labelling),
        *examined.modality.check(table, examined.scan, examined.settings),
        *copies,
        *(not_all(row, len(part), len(table)) for row in (
            *check_shortcuts(part, examined, limits, seed, labelling),
            check_label_suspects(suspects, part, limits),
            *check_split_drift(part, z, limits, seed),
        )),
        *identity_findings(table, z, limits, seed, labelling),
        check_imbalance(table, limits, labelling),
    ]  # fmt: skip
    repaired = table[~table["path"].isin(removed)].reset_index(drop=True)
    return Audit(findings, suspects, repaired, measure_leak_impact(part, z, removed, labelling))


def find_leaks(
    table: pd.DataFrame, examined: ReadableSamples, limits: Limits
) -> tuple[list[dict[str, Any]], set[str]]:
    """Return the findings about copies, and the paths without which no leak is left."""
    first: list[dict[str, Any]] = []
    removed: set[str] = set()
    families = filename_groups(table, examined.z)
    while True:  # once more without them: other neighbours come into view
        stays = np.flatnonzero(~table["path"].isin(removed))
        rows = table.iloc[stays].reset_index(drop=True)
        near = find_near_copies(rows, stays, examined, limits.near_copy, limits.near_copy_margin)
        names = families.iloc[stays].reset_index(drop=True)
        found = copy_findings(rows, near, names, limits.max_leaked)
        first = first or found
        more = {row["path"] for finding in found for row in finding["repair"]}
        if not more:
            return first, removed
        removed |= more


def check_names(table: pd.DataFrame, labelling: Labelling) -> list[dict[str, Any]]:
    """Look at the names of classes and files."""
    labels = pd.Series(sorted(labelling.explode(table["label"].astype(str)).unique()))
    alike = labels[
        labels.str.casefold().str.strip().str.replace(r"[\s_-]+", " ", regex=True).duplicated(keep=False)
    ]
    foreign = [path for path in table["path"] if not path.isascii()]
    plain = table["path"].map(lambda path: unicodedata.normalize("NFC", path).casefold())
    return [
        make_finding(
            "file names differ in more than case and accents' spelling", "warn",
            list(table["path"][plain.duplicated(keep=False)]), len(table),
            "rename them: on other file systems they are one file",
        ),
        make_finding(
            "class names differ in more than case and spaces", "fail", list(alike), len(labels),
            "rename the folders: they are one class under several names",
        ),
        make_finding(
            "file names are plain ASCII", "warn", foreign, len(table), "rename them if a tool stumbles"
        ),
    ]  # fmt: skip


def check_ignored_files(overlooked: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """Name what lies in the folder and was not taken."""
    remedies = {
        "hidden": "nothing, if they are not part of the data",
        "no sample": "nothing, if they are not part of the data; else give them the ending of what they are",
        "empty folder": "add samples, or remove the folder: there is no such class",
        "link out": "copy the files into the folder: nothing outside of it is read",
        "no row": "add a row for each of them to the table, if they are part of the data",
    }
    return [
        make_finding(f"no file is ignored: {reason}", "warn", overlooked.get(reason, []), 0, remedy)
        for reason, remedy in remedies.items()
    ]


def check_shortcuts(
    table: pd.DataFrame, examined: ReadableSamples, limits: Limits, seed: int, labelling: Labelling
) -> list[dict[str, Any]]:
    """Run the shortcut tests on the training samples."""
    rows = np.flatnonzero(table["split"] == "train")[: limits.probe_samples]
    cells = table["label"].iloc[rows]
    known = sorted(labelling.explode(cells).unique())
    y = labelling.encode(cells, known)
    findings = []
    for shortcut in examined.modality.shortcuts(table, examined.scan, rows):
        found = (shortcut_test if y.ndim == 1 else label_set_shortcut_test)(
            shortcut.x, y, limits.permutations, seed
        )
        detected = is_shortcut(found, limits)
        text = "not measured" if found["p"] is None else (
            f"balanced accuracy {found['accuracy']:.3f}, chance {found['chance']:.3f}, p = {found['p']:.3f}"
        )  # fmt: skip
        if "label" in found:
            text += f", for the label that is predicted best, {known[found['label']]}"
        row = make_finding(
            f"the class cannot be told from {shortcut.what}", "warn", ["the data set"] if detected else [], 1,
            shortcut.remedy, values=[text], impact=text,
        )  # fmt: skip
        findings.append({**row, "observed": text, "shortcut_test": found})
    return findings


def is_shortcut(found: Mapping[str, Any], limits: Limits) -> bool:
    """Say whether a shortcut test found more than chance, and enough of it to matter."""
    if found["p"] is None or found["p"] > limits.shortcut_level:
        return False
    return bool(found["accuracy"] - found["chance"] >= limits.shortcut_gain * (1 - found["chance"]))


def check_label_suspects(suspects: pd.DataFrame, table: pd.DataFrame, limits: Limits) -> dict[str, Any]:
    """List doubtful labels; the list is a .csv that a person corrects and gives back."""
    share = len(suspects) / max(1, len(table))
    rows = zip(suspects["label"], suspects["suggested"], suspects["self_confidence"], strict=True)
    row = make_finding(
        "no label looks wrong", "warn", list(suspects["path"]), len(table),
        "correct suspects.csv by hand and set ingest_data.corrections to it",
        values=[f"{label}, rather {other} ({sure:.2f})" for label, other, sure in rows],
        impact=f"{share:.1%} of the labels",
    )  # fmt: skip
    return row if share > limits.max_suspects else {**row, "verdict": "pass"}


def check_imbalance(table: pd.DataFrame, limits: Limits, labelling: Labelling = ONE_LABEL) -> dict[str, Any]:
    """Compare the sizes of the classes in train."""
    counts = labelling.explode(table["label"][table["split"] == "train"]).value_counts()
    ratio = counts.max() / max(1, counts.min())
    rare = [str(name) for name in counts.index[counts * limits.max_imbalance < counts.max()]]
    row = make_finding(
        "no class is many times another", "warn", rare, len(counts),
        "add samples of these classes; read macro F1, not accuracy",
    )  # fmt: skip
    return {**row, "observed": f"{ratio:.1f} times"}


def check_split_drift(
    table: pd.DataFrame, z: NDArray[np.float16], limits: Limits, seed: int
) -> list[dict[str, Any]]:
    """Ask whether held-out samples can be told from training ones."""
    findings = []
    train = (table["split"] == "train").to_numpy()
    for split in ("val", "test"):
        held = (table["split"] == split).to_numpy()
        if min(train.sum(), held.sum()) < 2 * FOLDS:
            continue
        found = two_sample_auc(z, train, held, seed, limits.probe_samples)
        text = f"AUC {found['auc']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
        row = make_finding(
            f"{split} looks like train", "warn",
            ["the data set"] if found["low"] > limits.max_drift else [], 1,
            "draw all splits from the same source; else the test figures describe another population",
            impact=text,
        )  # fmt: skip
        findings.append({**row, "observed": text})
    return findings


def measure_leak_impact(
    table: pd.DataFrame, z: NDArray[np.float16], removed: set[str], labelling: Labelling
) -> dict[str, float] | None:
    """Return a probe's accuracy on the held-out files that stay, trained with and without the leaks."""
    train = (table["split"] == "train").to_numpy()
    stays = ~table["path"].isin(removed).to_numpy()
    held = (table["split"] == "test").to_numpy() & stays
    if stays.all() or not held.any() or table["label"][train & stays].nunique() < 2:
        return None
    y = labelling.encode(table["label"], sorted(labelling.explode(table["label"]).unique()))
    asked = z[held].astype(np.float64)
    leaky, clean = (
        float(correct_fraction(linear_probe(z[rows].astype(np.float64), y[rows], asked), y[held]).mean())
        for rows in (train, train & stays)
    )
    return {"leaky": leaky, "repaired": clean, "difference": leaky - clean, "samples": int(held.sum())}
