"""Ordinary names of files, and names that betray who is seen: what the audit takes them for."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.core.audit.filename_groups import filename_groups
from steps.core.audit.identities import find_identity
from steps.core.audit.leaks import cross_split_pairs
from steps.core.audit.limits import Limits

SAMPLES, FEATURES = 600, 32
LABELS, SPLITS = ("cat", "dog", "owl"), ("train", "train", "train", "val", "test")
MARKS = ("", "_rot90", "_crop_2", "_hflip")
Draw = np.random.Generator


@dataclass(frozen=True)
class Shot:
    """One sample: its number in the data set, in its class, in its class and split, and whose it is."""

    number: int
    of_class: int
    of_split: int
    label: str
    split: str
    who: int
    draw: Draw


def date(draw: Draw) -> str:
    """Return a day of one year."""
    return f"2023{draw.integers(1, 13):02d}{draw.integers(1, 29):02d}"


ORDINARY: Mapping[str, Callable[[Shot], str]] = {
    "0001 over all": lambda s: f"{s.number:04d}",
    "IMG_0001 in every class": lambda s: f"IMG_{s.of_class:04d}",
    "1 in every class and split": lambda s: f"{s.of_split}",
    "person_crop_0001": lambda s: f"person_crop_{s.number:04d}",
    "scan copy 1": lambda s: f"scan copy {s.of_class}",
    "class_001": lambda s: f"{s.label}_{s.of_class:03d}",
    "date and time": lambda s: f"IMG_{date(s.draw)}_{s.draw.integers(0, 240000):06d}",
    "days": lambda s: f"2023-{s.draw.integers(1, 13):02d}-{s.draw.integers(1, 29):02d} {s.number}",
    "640x480": lambda s: f"{s.number}_640x480",
    "folds": lambda s: f"fold{s.draw.integers(1, 11)}_{s.number}",
    "row and column": lambda s: f"r{s.draw.integers(0, 30)}c{s.draw.integers(0, 30)}_{s.number}",
    "digests": lambda s: hashlib.md5(str(s.number).encode()).hexdigest(),
    "settings": lambda s: f"iso{s.draw.choice([100, 200, 400, 800])}_f{s.draw.integers(2, 16)}_{s.number}",
}
"""Names that say nothing of who is seen."""
BETRAYING: Mapping[str, Callable[[Shot], str]] = {
    "person124_virus_247": lambda s: f"person{s.who}_{s.label}_{s.number}",
    "IM-0115-0001": lambda s: f"IM-{s.who:04d}-{s.number:04d}",
    "patient12/001": lambda s: f"patient{s.who}/{s.number:03d}",
    "a3f9c2-1": lambda s: f"{hashlib.md5(str(s.who).encode()).hexdigest()[:10]}-{s.number}",
    "S07_T2_5": lambda s: f"S{s.who:02d}_T{s.draw.integers(1, 4)}_{s.number}",
}
"""Names with a number of the person, of whom there are about four samples."""


def named(scheme: Callable[[Shot], str], seed: int, alike: bool) -> tuple[pd.DataFrame, NDArray[np.float16]]:
    """Return the rows of a data set and its embeddings; samples of one person are more alike, or are not."""
    draw = np.random.default_rng(seed)
    labels, splits = draw.integers(0, 3, SAMPLES), draw.integers(0, 5, SAMPLES)
    who = draw.integers(0, SAMPLES // 12, SAMPLES) * 3 + labels  # a person is of one class
    counts: dict[object, int] = {}
    rows = []
    for number in range(SAMPLES):
        label, split = LABELS[labels[number]], SPLITS[splits[number]]
        for key in (label, (label, split)):
            counts[key] = counts.get(key, 0) + 1
        shot = Shot(number, counts[label], counts[label, split], label, split, int(who[number]), draw)
        rows.append((f"{split}/{label}/{scheme(shot)}.jpg", label, split, None))
    table = pd.DataFrame(rows, columns=["path", "label", "split", "group"])
    persons = draw.normal(size=(SAMPLES, FEATURES))
    z = 2.0 * np.eye(FEATURES)[labels] + draw.normal(size=(SAMPLES, FEATURES)) + alike * persons[who]
    return table, z.astype(np.float16)


def alarms(scheme: Callable[[Shot], str], seed: int, alike: bool, checks: Limits) -> tuple[bool, bool]:
    """Say whether an identity is found in names, and whether versions of one original in two splits."""
    table, z = named(scheme, seed, alike)
    families = filename_groups(table, z)
    return (
        find_identity(table, z, checks, seed) is not None,
        len(cross_split_pairs(families, table["split"])) > 0,
    )


def versions(seed: int) -> tuple[bool, bool]:
    """Say whether versions of one original are found by their names, with it and without it."""
    found = []
    for marks in (MARKS, MARKS[1:]):
        draw = np.random.default_rng(seed)
        originals = draw.normal(size=(SAMPLES // 4, FEATURES))
        rows = [
            (f"{SPLITS[draw.integers(0, 5)]}/cat/a{number}{mark}.jpg", "cat", number)
            for number in range(SAMPLES // 4)
            for mark in marks
        ]
        table = pd.DataFrame(rows, columns=["path", "label", "number"])
        z = originals[table["number"]] + 0.5 * draw.normal(size=(len(table), FEATURES))
        groups = filename_groups(table, z.astype(np.float16))
        found.append(groups.nunique() <= 1.1 * table["number"].nunique())
    return found[0], found[1]


def name_rows(seeds: int, checks: Limits) -> list[tuple[str, int, int, int]]:
    """Return detector, in how many data sets it has something to find, in how many it does, false alarms."""
    rows = []
    for kind, schemes, alike in (("ordinary", ORDINARY, False), ("betraying", BETRAYING, True)):
        for says, scheme in schemes.items():
            found = [alarms(scheme, seed, alike, checks) for seed in range(seeds)]
            identity, version = (sum(column) for column in zip(*found, strict=True))
            if kind == "ordinary":
                rows.append((f"names: {says}", 0, 0, identity + version))
            else:
                rows.append((f"names: {says}", seeds, identity, version))
    both = [versions(seed) for seed in range(seeds)]
    for place, says in enumerate(("versions beside their original", "versions without their original")):
        rows.append((f"names: {says}", seeds, sum(one[place] for one in both), 0))
    return rows
