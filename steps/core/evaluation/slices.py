"""Where a model is weak: the accuracy of parts of the test set, each with Wilson's interval (1927)."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from steps.core.tasks.predictions import Predictions

MIN_SLICE_SAMPLES = 10  # samples of a slice
MAX_SLICES = 50  # slices of one kind
THIRDS = ("low", "middle", "high")


def slice_rows(predictions: Predictions, table: pd.DataFrame, facts: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row per slice, the weakest first.

    Args:
        predictions: The model's answers.
        table: The manifest's rows: path, label, split, and perhaps group.
        facts: What was measured in each sample: a number per column.
    """
    correct = predictions.correct
    rows = []
    for kind, names in slice_kinds(table, facts).items():
        for name, members in names.groupby(names).groups.items():
            places = names.index.get_indexer(members)
            if len(places) >= MIN_SLICE_SAMPLES:
                rows.append({"kind": kind, "slice": str(name), **accuracy_interval(correct[places])})
    return sorted(rows, key=lambda row: (row["accuracy"], row["kind"], row["slice"]))


def slice_kinds(table: pd.DataFrame, facts: pd.DataFrame) -> Mapping[str, "pd.Series[str]"]:
    """Return, per way to divide the samples, the name of each sample's part."""
    table, facts = table.reset_index(drop=True), facts.reset_index(drop=True)
    found = {name: thirds(facts[name]) for name in facts.columns}
    pairs = zip(table["path"], table["label"], table["split"], strict=True)
    found["folder"] = pd.Series([source_folder(*row) for row in pairs])
    if "group" in table:
        found["group"] = table["group"].fillna("").astype(str)
    return {kind: names for kind, names in found.items() if 2 <= names.nunique() <= MAX_SLICES}


def source_folder(path: str, label: str, split: str) -> str:
    """Return the folders of a path that name neither its class nor its split."""
    parts = [part for part in PurePosixPath(path).parent.parts if part not in (label, split)]
    return "/".join(parts) or "."


def thirds(values: "pd.Series[float]") -> "pd.Series[str]":
    """Name the third of the samples that each value belongs to; one name where all are equal."""
    low, high = np.quantile(values, [1 / 3, 2 / 3])
    places = (values > low).astype(int) + (values > high)
    return places.map(dict(enumerate(THIRDS))) if low < high else values.map(lambda _: THIRDS[1])


def accuracy_interval(correct: "np.ndarray[Any, np.dtype[np.bool_]]") -> dict[str, Any]:
    """Return samples and accuracy with a 95 % interval."""
    found = binomtest(int(correct.sum()), len(correct)).proportion_ci(method="wilson")
    return {
        "samples": len(correct),
        "accuracy": float(correct.mean()),
        "low": float(found.low),
        "high": float(found.high),
    }
