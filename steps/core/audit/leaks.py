"""Who is whose copy, and which copies do harm: across splits a leak, across classes a contradiction."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.core.audit.filename_groups import filename_groups
from steps.core.data.findings import make_finding
from steps.core.modalities.contract import Modality
from steps.core.modalities.parts import Scan

ORDER = {"train": 0, "val": 1, "test": 2}  # a repair keeps the copy in the later split


class Compared(Protocol):
    """Samples that are compared with one another; see `steps.core.audit.audit.ReadableSamples`."""

    @property
    def modality(self) -> Modality:
        """By which they are compared."""

    @property
    def scan(self) -> Scan:
        """Their fingerprints."""

    @property
    def z(self) -> NDArray[np.float16]:
        """Their embeddings (audited, features)."""


@dataclass(frozen=True)
class Copies:
    """Pairs of rows of one kind (pairs, 2), with a similarity each."""

    kind: str
    rows: NDArray[np.int64]
    similarity: NDArray[np.float64]

    def select(self, chosen: NDArray[np.bool_]) -> "Copies":
        """Return some of the pairs."""
        return Copies(self.kind, self.rows[chosen], self.similarity[chosen])


def find_copies(
    table: pd.DataFrame,
    rows: NDArray[np.int64],
    examined: Compared,
    threshold: float,
    near_copy_margin: float,
) -> list[Copies]:
    """Return exact and near copies in a table; a near copy of an exact copy is told once.

    Args:
        table: The samples that are compared.
        rows: Where each of them lies among those that have been examined, ascending.
        examined: Their fingerprints and embeddings.
        threshold: Likeness of a near copy, at least; see `validate_data.near_copy`.
        near_copy_margin: See `validate_data.near_copy_margin`.
    """
    exact = equal_key_pairs(table["sha256"])
    first = rows[~table["sha256"].duplicated().to_numpy()]
    kind = examined.modality
    comparable = kind.comparable_rows(examined.scan, first)
    near, similarity = kind.near_copies(examined.scan, examined.z, comparable, threshold, near_copy_margin)
    return [
        Copies("exact copy", exact, np.ones(len(exact))),
        Copies("near copy", np.searchsorted(rows, near), similarity),
    ]


def equal_key_pairs(keys: "pd.Series[Any]") -> NDArray[np.int64]:
    """Return a pair (first, other) for every row that shares its key with an earlier one."""
    known = keys.notna().to_numpy()
    places = pd.Series(np.arange(len(keys)), index=keys.index)
    first = places.groupby(keys.to_numpy(), dropna=True).transform("min")
    rows = np.flatnonzero(known & (first.to_numpy() != places.to_numpy()))
    return np.column_stack([first.to_numpy()[rows], rows]).astype(np.int64)


def cross_split_pairs(keys: "pd.Series[Any]", split: "pd.Series[str]") -> NDArray[np.int64]:
    """Return, for every key in several splits, its rows of the earlier splits with one of the last."""
    pairs = []
    for _, rows in pd.Series(np.arange(len(keys))).groupby(keys.to_numpy(), dropna=True):
        places = split.iloc[rows].map(ORDER).to_numpy()
        last = rows.iloc[int(places.argmax())]
        pairs += [(row, last) for row in rows[places < places.max()]]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def copy_findings(table: pd.DataFrame, copies: list[Copies], max_leaked: float) -> list[dict[str, Any]]:
    """Return the findings about copies: across classes, across splits, and harmless ones."""
    labels, splits = table["label"].to_numpy(), table["split"].to_numpy()
    findings = []
    for kind in copies:
        one, other = kind.rows[:, 0], kind.rows[:, 1]
        contradictory = labels[one] != labels[other]
        leaks = (splits[one] != splits[other]) & ~contradictory
        findings += [
            contradiction_finding(table, kind.select(contradictory)),
            leak_finding(table, kind.select(leaks), max_leaked),
            harmless_finding(table, kind.select(~contradictory & ~leaks)),
        ]
    names = Copies(
        "version of one original",
        *with_full_similarity(cross_split_pairs(filename_groups(table), table["split"])),
    )
    groups = Copies(
        "member of one group", *with_full_similarity(cross_split_pairs(table["group"], table["split"]))
    )
    return [*findings, *(leak_finding(table, kind, max_leaked) for kind in (names, groups))]


def with_full_similarity(pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return pairs with a similarity of 1 each."""
    return pairs, np.ones(len(pairs))


def leak_finding(table: pd.DataFrame, copies: Copies, max_leaked: float) -> dict[str, Any]:
    """Accuse the files of val and test that have a twin in an earlier split."""
    paths, order = table["path"].to_numpy(), table["split"].map(ORDER).to_numpy()
    one, other = copies.rows[:, 0], copies.rows[:, 1]
    late = np.where(order[one] > order[other], one, other)
    early = np.where(order[one] > order[other], other, one)
    held_out = int((order > 0).sum())
    twin = dict(zip(paths[late], paths[early], strict=True))
    files = sorted(twin)
    severity = "fail" if len(files) > max_leaked * max(1, held_out) else "warn"
    because = {paths[e]: f"{copies.kind} of {paths[k]}" for e, k in zip(early, late, strict=True)}
    return make_finding(
        f"no {copies.kind} lies in two splits",
        severity,
        files,
        held_out,
        "set validate_data.repair to true: the copies are removed from the earlier split",
        values=[twin[path] for path in files],
        impact="test figures are too high: the model has seen these samples in training",
        leave_out=sorted(because.items()),
        pairs=list(zip(paths[late], paths[early], copies.similarity.tolist(), strict=True)),
    )


def contradiction_finding(table: pd.DataFrame, copies: Copies) -> dict[str, Any]:
    """Accuse both files of a pair that is one sample under two labels."""
    paths, labels = table["path"].to_numpy(), table["label"].to_numpy()
    rows = sorted(set(copies.rows.flatten().tolist()))
    pairs = zip(*copies.rows.T, copies.similarity.tolist(), strict=True) if len(copies.rows) else ()
    return make_finding(
        f"no {copies.kind} has another label",
        "fail" if copies.kind == "exact copy" else "warn",
        [paths[row] for row in rows],
        len(table),
        "correct the labels by ingest_data.corrections, or set validate_data.repair to true: both go",
        values=[labels[row] for row in rows],
        impact="at least one of each pair is labelled wrongly",
        leave_out=[(paths[row], f"{copies.kind} under another label") for row in rows],
        pairs=[(paths[a], paths[b], similarity) for a, b, similarity in pairs],
    )


def harmless_finding(table: pd.DataFrame, copies: Copies) -> dict[str, Any]:
    """Mention the copies within one class and split."""
    paths = table["path"].to_numpy()
    rows = copies.rows[:, 1]
    return make_finding(
        f"no {copies.kind} lies beside its original",
        "warn",
        [paths[row] for row in rows],
        len(table),
        "keep one of each; they count double",
        values=[paths[row] for row in copies.rows[:, 0]],
        pairs=list(zip(paths[rows], paths[copies.rows[:, 0]], copies.similarity.tolist(), strict=True)),
    )
