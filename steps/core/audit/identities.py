"""Persons, objects and sessions that a file's name betrays: `person124_virus_247` in train and in test.

A model that has seen a person in training is tested on a memory of that person. Candidates are numbers in the
names of files and folders that repeat and cross splits. Running numbers do so too where every class or split
counts from one, and so do dates: so a candidate must hold in the samples as well. Within a class, two files
that share the number have to be more alike than two that do not (a permutation test on embeddings).
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.core.audit.leaks import ORDER, cross_split_pairs
from steps.core.audit.limits import Limits
from steps.core.data.findings import make_finding, not_all
from steps.core.features.vectors import correct_fraction, linear_probe
from steps.core.tasks.labelling import Labelling

WORDS_AND_NUMBERS = re.compile(r"[^\W\d_]+|\d+")
ALNUM = "[0-9A-Za-z]"
CODE = re.compile(  # letters and digits in turn, such as a3f9c2
    rf"(?<!{ALNUM})(?={ALNUM}*[0-9][A-Za-z])(?={ALNUM}*[A-Za-z][0-9]){ALNUM}{{5,}}"
)
DATE = re.compile(
    r"(?:19|20)\d\d(?:(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])?)?(?:[0-2]\d[0-5]\d(?:[0-5]\d)?)?"
)
LEAST_VALUES = 10  # fewer are a version, a fold or a camera
LEAST_ROWS = 20  # that share a value with another of their class: fewer show nothing
LEAST_SHARE = 0.05  # of the rows, that must have something at a place in their names
LARGEST = 0.2  # of the rows, that one value may have: more are no person
PEERS = 16  # other files that a pair is compared with
AXES = 64  # of embeddings, on which likeness is measured

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Identity:
    """A place in names, and how alike files are that have the same there."""

    place: str
    """How the place is shown: `person#`."""
    keys: "pd.Series[Any]"
    """What every sample has there; None where it has nothing (samples)."""
    likeness: float
    """Probability that two files of one class that share it are more alike than two that do not."""
    p: float
    compared: int
    """Samples that this is known from."""


def parts_of(path: str, label: str) -> Iterator[tuple[str, str]]:
    """Yield place and value of all that could be an identity in a path: numbers, codes, numbered folders."""
    *folders, file = PurePosixPath(path).parts
    for depth, folder in enumerate(folders):
        if folder not in (label, *ORDER) and re.search(r"\d", folder):
            yield f"folder {depth + 1}", folder
    stem = PurePosixPath(file).stem
    for code in CODE.findall(stem):
        yield "code", code
    word, count = "", 0
    for token in WORDS_AND_NUMBERS.findall(CODE.sub(" ", stem)):
        if token.isdigit():
            yield f"{word}{'-' * count}#", token
            count += 1
        else:
            word, count = token.casefold(), 0


def candidates(table: pd.DataFrame) -> dict[str, "pd.Series[Any]"]:
    """Return per place in the names what every sample has there, for places that could hold identities.

    Args:
        table: Columns path, label and split (samples).
    """
    found, members = {}, defaultdict[str, dict[int, str]](dict)
    for row, (path, label) in enumerate(zip(table["path"], table["label"].astype(str), strict=True)):
        for place, value in parts_of(path, label):
            members[place][row] = value
    for place, values in sorted(members.items()):
        if len(values) < max(LEAST_ROWS, LEAST_SHARE * len(table)):
            continue
        keys = pd.Series([values.get(row) for row in range(len(table))], dtype=object)
        counts = keys.value_counts()
        shared = keys.map(counts).fillna(0) > 1
        if (
            len(counts) >= LEAST_VALUES
            and counts.iloc[0] <= LARGEST * len(table)
            and shared.sum() >= LEAST_ROWS
            and not all(DATE.fullmatch(value) for value in counts.index)
            and len(cross_split_pairs(keys, table["split"]))
        ):
            found[place] = keys
    return found


def likeness_within(
    z: Floats, groups: Ints, labels: Ints, permutations: int, seed: int
) -> tuple[float, float]:
    """Return how much more alike members of a group are than others of their label, and its p-value.

    Args:
        z: Embeddings, whose labels' means are taken away (samples, features).
        groups: A number per sample.
        labels: A number per sample; members of a group in another label are another group.
        permutations: Shuffles of the groups within labels, by which the mean cosine within groups is judged.
        seed: Of the shuffles, and of the others that pairs are compared with.

    Returns:
        The probability that a member of the group is closer than one of another group: 0.5 is chance.
    """
    draw = np.random.default_rng(seed)
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    order = np.lexsort((groups, labels))
    unit, groups, labels = unit[order], groups[order], labels[order]
    new = np.flatnonzero(np.diff(groups, prepend=-1).astype(bool) | np.diff(labels, prepend=-1).astype(bool))
    of_label = np.flatnonzero(np.diff(labels, prepend=-1))
    bounds = [*of_label.tolist(), len(labels)]

    p = within_p(unit, new, bounds, permutations, draw)
    wins = []
    for first, last in pairwise([*new.tolist(), len(unit)]):
        label = int(np.searchsorted(of_label, first, side="right")) - 1
        others = np.r_[bounds[label] : first, last : bounds[label + 1]]
        if last - first > 1 and len(others):
            peers = draw.choice(others, min(PEERS, len(others)), replace=False)
            members = unit[first + 1 : last]
            wins.append(float(((members @ unit[first])[:, None] > members @ unit[peers].T).mean()))
    return (float(np.mean(wins)) if wins else 0.5), p


def within_p(
    unit: Floats, new: Ints, bounds: list[int], permutations: int, draw: np.random.Generator
) -> float:
    """Return the p-value of the mean cosine within groups.

    Args:
        unit: Embeddings of length 1, by label and by group (samples, features).
        new: Where each group begins.
        bounds: Where each label begins, and the number of samples.
        permutations: Shuffles within labels.
        draw: Of these.
    """

    def within(rows: Ints) -> float:  # the sum of all cosines within groups, and a constant
        return float(np.square(np.add.reduceat(unit[rows], new, axis=0)).sum())

    def shuffled() -> Ints:
        return np.concatenate([first + draw.permutation(last - first) for first, last in pairwise(bounds)])

    seen = within(np.arange(len(unit)))
    return (1 + sum(within(shuffled()) >= seen for _ in range(permutations))) / (permutations + 1)


def find_identity(table: pd.DataFrame, z: NDArray[np.float16], limits: Limits, seed: int) -> Identity | None:
    """Return the place in the names by which files of one class are most alike, if it is more than chance.

    Args:
        table: Columns path, label, split and group (samples); nothing is looked for where groups are known.
        z: Embeddings of the first rows (audited, features).
        limits: See `identity_likeness`, `shortcut_level`, `permutations` and `probe_samples` in params.yaml.
        seed: Of the shuffles.
    """
    if table["group"].notna().any() or not len(z):
        return None
    labels = pd.factorize(table["label"])[0]
    best: Identity | None = None
    for place, keys in candidates(table).items():
        values, known = pd.factorize(keys)[0], keys.notna().to_numpy()
        rows = np.flatnonzero(known[: len(z)])[: limits.probe_samples]
        cells = pd.Series(list(zip(labels[rows], values[rows], strict=True)))
        if cells.duplicated(keep=False).sum() < LEAST_ROWS:
            continue
        x = along_axes(z[rows].astype(np.float64), labels[rows])
        likeness, p = likeness_within(x, values[rows], labels[rows], limits.permutations, seed)
        confirmed = p <= limits.shortcut_level and likeness >= limits.identity_likeness
        if confirmed and (best is None or likeness > best.likeness):
            best = Identity(place, keys, likeness, p, len(rows))
    return best


def along_axes(z: Floats, labels: Ints) -> Floats:
    """Return embeddings (samples, features), less their labels' means, along their principal axes."""
    counts = np.bincount(labels)
    means = np.zeros((len(counts), z.shape[1]))
    np.add.at(means, labels, z)
    centred: Floats = z - (means / np.maximum(counts, 1)[:, None])[labels]
    if z.shape[1] <= AXES:
        return centred
    _, axes = np.linalg.eigh(centred.T @ centred)
    rotated: Floats = centred @ axes[:, -AXES:]
    return rotated


def identity_findings(
    table: pd.DataFrame, z: NDArray[np.float16], limits: Limits, seed: int, labelling: Labelling
) -> list[dict[str, Any]]:
    """Offer an identity that lies in two splits as the group of the samples; see `find_identity`.

    A warning, not a failure: only who made the names knows what they mean.
    """
    found = find_identity(table, z, limits, seed)
    pairs = cross_split_pairs(found.keys, table["split"]) if found else np.zeros((0, 2), np.int64)
    order, paths = table["split"].map(ORDER).to_numpy(), table["path"].to_numpy()
    late = pairs[order[pairs[:, 1]] > order[pairs[:, 0]]]
    twin = dict(zip(late[:, 1].tolist(), late[:, 0].tolist(), strict=True))
    finding = make_finding(
        "no identity by name lies in two splits", "warn", [paths[row] for row in sorted(twin)],
        int((order > 0).sum()),
        "if it is a person, an object or a session, give it as the column `group` of a manifest",
        values=[paths[twin[row]] for row in sorted(twin)],
        impact=says(found, probe_costs(table, z, found, labelling, seed)) if found else "",
    )  # fmt: skip
    return [not_all(finding, len(z), len(table))]


def says(found: Identity, costs: tuple[float, float] | None) -> str:
    """Put into words what is known of an identity."""
    text = (
        f"{found.place} in the names: two files of one class that share it are more alike than two that do "
        f"not in {found.likeness:.0%} of cases (chance 50%, p = {found.p:.3f})"
    )
    if costs is None:
        return text
    with_them, without = costs
    asked = f"a probe is right in {with_them:.1%} of these files, in {without:.1%} without theirs in train"
    return f"{text}; {asked}"


def probe_costs(
    table: pd.DataFrame, z: NDArray[np.float16], found: Identity, labelling: Labelling, seed: int
) -> tuple[float, float] | None:
    """Return a probe's accuracy on test files whose identity is in train, with and without that in train.

    In the first training as many other files are left out, so that both are of one size.
    """
    part, keys = table.head(len(z)), found.keys.astype(str).to_numpy()[: len(z)]
    train, test = ((part["split"] == split).to_numpy() for split in ("train", "test"))
    known = found.keys.notna().to_numpy()[: len(z)]
    asked = test & known & np.isin(keys, keys[train & known])
    theirs = train & known & np.isin(keys, keys[asked])
    others = np.flatnonzero(train & ~theirs)
    if not asked.any() or len(others) <= theirs.sum():
        return None
    fewer = train.copy()
    fewer[np.random.default_rng(seed).choice(others, int(theirs.sum()), replace=False)] = False
    y = labelling.encode(part["label"], sorted(labelling.explode(part["label"]).unique()))
    if min(part["label"][rows].nunique() for rows in (fewer, train & ~theirs)) < 2:
        return None
    x = z.astype(np.float64)
    answers = (linear_probe(x[rows], y[rows], x[asked]) for rows in (fewer, train & ~theirs))
    first, second = (float(correct_fraction(answer, y[asked]).mean()) for answer in answers)
    return first, second
