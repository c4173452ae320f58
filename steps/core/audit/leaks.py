"""Who is whose copy, and which copies do harm: across splits a leak, across classes a contradiction."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.core.data.findings import make_finding, not_all
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


@dataclass(frozen=True)
class Copies:
    """Pairs of rows of one kind (pairs, 2), with a similarity each."""

    kind: str
    rows: NDArray[np.int64]
    similarity: NDArray[np.float64]
    compared: int = 0
    """How many samples were compared ..."""
    of: int = 0
    """... of how many different ones."""
    variants: int = 0
    """Pairs under two labels that differ in what these may be about, and are not among the rows."""

    def select(self, chosen: NDArray[np.bool_]) -> "Copies":
        """Return some of the pairs."""
        return replace(self, rows=self.rows[chosen], similarity=self.similarity[chosen])


def find_near_copies(
    table: pd.DataFrame,
    rows: NDArray[np.int64],
    examined: Compared,
    threshold: float,
    near_copy_margin: float,
) -> Copies:
    """Return the near copies in a table; one of an exact copy is told once.

    Args:
        table: The samples that are compared.
        rows: Where each of them lies among those that have been examined, ascending.
        examined: Their fingerprints.
        threshold: Likeness of a near copy, at least; see `validate_data.near_copy`.
        near_copy_margin: See `validate_data.near_copy_margin`.
    """
    kind = examined.modality
    first = rows[~table["sha256"].duplicated().to_numpy()]
    comparable = kind.comparable_rows(examined.scan, first)
    near, similarity = kind.near_copies(examined.scan, comparable, threshold, near_copy_margin)
    labels = table["label"].to_numpy()
    found = Copies("near copy", np.searchsorted(rows, near), similarity, len(comparable), len(first))
    is_variant = labels[found.rows[:, 0]] != labels[found.rows[:, 1]]
    is_variant[is_variant] = kind.variants(examined.scan, near[is_variant])
    return replace(found.select(~is_variant), variants=int(is_variant.sum()))


def equal_key_pairs(keys: "pd.Series[Any]") -> NDArray[np.int64]:
    """Return a pair (first, other) for every row that shares its key with an earlier one."""
    known = keys.notna().to_numpy()
    places = pd.Series(np.arange(len(keys)), index=keys.index)
    first = places.groupby(keys.to_numpy(), dropna=True).transform("min")
    rows = np.flatnonzero(known & (first.to_numpy() != places.to_numpy()))
    return np.column_stack([first.to_numpy()[rows], rows]).astype(np.int64)


def cross_split_pairs(keys: "pd.Series[Any]", split: "pd.Series[str]") -> NDArray[np.int64]:
    """Return pairs (early, late) for the keys that lie in several splits.

    Every row that is not in its key's last split is paired with one of that, and every row that is not in
    its first with one of that: so each held-out row that an earlier split knows is the late one of a pair.
    """
    frame = pd.DataFrame(
        {"row": np.arange(len(keys)), "key": keys.to_numpy(), "order": split.map(ORDER).to_numpy()}
    )
    frame = frame[frame["key"].notna()].sort_values(["order", "row"], kind="stable")
    of_key = frame.groupby("key", sort=False)
    first, last = of_key["row"].transform("first"), of_key["row"].transform("last")
    lowest, highest = of_key["order"].transform("min"), of_key["order"].transform("max")
    leaves, is_late = frame["order"] < highest, frame["order"] > lowest
    early = np.column_stack([frame["row"][leaves], last[leaves]])
    late = np.column_stack([first[is_late], frame["row"][is_late]])
    found: NDArray[np.int64] = np.unique(np.concatenate([early, late]).astype(np.int64), axis=0)
    return found


def copy_findings(
    table: pd.DataFrame, near: Copies, families: "pd.Series[int]", max_leaked: float
) -> list[dict[str, Any]]:
    """Return the findings about copies: across classes, across splits, and harmless ones.

    Args:
        table: The samples (samples).
        near: Their near copies.
        families: A number per sample; versions of one original share it; see `filename_groups`.
        max_leaked: Share of the held-out samples that may have a twin in an earlier split; of a group none.
    """
    contradictory, leaks, harmless = divide_pairs(table, near)
    versions, members = (cross_split_pairs(keys, table["split"]) for keys in (families, table["group"]))
    return [
        *exact_copy_findings(table, max_leaked),
        *(
            not_all(row, near.compared, near.of)
            for row in (
                contradiction_finding(table, contradictory),
                leak_finding(table, leaks, max_leaked),
                harmless_finding(table, harmless),
            )
        ),
        leak_finding(table, whole(versions, "version of one original"), max_leaked),
        leak_finding(table, whole(members, "member of one group"), 0.0),
    ]


def exact_copy_findings(table: pd.DataFrame, max_leaked: float) -> list[dict[str, Any]]:
    """Return the findings about samples of equal content, all of which are compared."""
    kind, labels, digest = "exact copy", table["label"], table["sha256"]
    has_others = labels.groupby(digest.to_numpy()).transform("nunique") > 1
    agreed = digest.where(~has_others, None)
    beside = (agreed + " " + table["split"]).where(agreed.notna(), None)
    return [
        contradiction_finding(table, whole(equal_key_pairs(digest.where(has_others, None)), kind)),
        leak_finding(table, whole(cross_split_pairs(agreed, table["split"]), kind), max_leaked),
        harmless_finding(table, whole(equal_key_pairs(beside), kind)),
    ]


def divide_pairs(table: pd.DataFrame, copies: Copies) -> tuple[Copies, Copies, Copies]:
    """Divide pairs into those under two labels, those of one label in two splits, and the others."""
    labels, splits = table["label"].to_numpy(), table["split"].to_numpy()
    one, other = copies.rows[:, 0], copies.rows[:, 1]
    contradictory = labels[one] != labels[other]
    leaks = (splits[one] != splits[other]) & ~contradictory
    return copies.select(contradictory), copies.select(leaks), copies.select(~contradictory & ~leaks)


def whole(pairs: NDArray[np.int64], kind: str) -> Copies:
    """Return pairs of one kind with a similarity of 1 each."""
    return Copies(kind, pairs, np.ones(len(pairs)))


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
    """Accuse the files of one sample under two labels.

    Exact copies stop the pipeline, and a repair leaves all of them out. Near copies are reported and stay:
    what differs between them may be what their labels are about.
    """
    paths, labels = table["path"].to_numpy(), table["label"].to_numpy()
    rows = sorted(set(copies.rows.flatten().tolist()))
    pairs = zip(*copies.rows.T, copies.similarity.tolist(), strict=True) if len(copies.rows) else ()
    exact = copies.kind == "exact copy"
    remedy = "correct the labels by ingest_data.corrections"
    finding = make_finding(
        f"no {copies.kind} has another label",
        "fail" if exact else "warn",
        [paths[row] for row in rows],
        len(table),
        f"{remedy}, or set validate_data.repair to true: all go" if exact else f"{remedy}, if they are wrong",
        values=[labels[row] for row in rows],
        impact="at least one of each pair is labelled wrongly" if exact else (
            "one of each pair is labelled wrongly, or the classes differ by less than the comparison sees"
        ),
        leave_out=[(paths[row], f"{copies.kind} under another label") for row in rows] if exact else (),
        pairs=[(paths[a], paths[b], similarity) for a, b, similarity in pairs],
    )  # fmt: skip
    if copies.variants:
        finding["observed"] += f"; {copies.variants} pairs of variants are not accused"
    return finding


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
