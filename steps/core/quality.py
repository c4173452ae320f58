"""The declarative checks of a manifest, as Great Expectations suites built from the params.

Four tables are checked: `samples` (a row per sample), `images` (those that can be read), `cells` (a row
per class) and `splits` (one row). A check that fails is a warning, or stops the pipeline.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any

import pandas as pd
from tqdm import tqdm

from steps.core.errors import DataError
from steps.core.files import Folder, prefetched
from steps.core.images import read_image
from steps.core.layouts import SPLITS
from steps.core.limits import Limits

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # before the import, or it is too late

import great_expectations as gx

logging.getLogger("great_expectations").setLevel(logging.WARNING)

COLUMNS = ("path", "label", "split", "group", "sha256", "bytes", "format", "mode", "width", "height")
SHOWN = 20


IN_SET, BETWEEN = "ExpectColumnValuesToBeInSet", "ExpectColumnValuesToBeBetween"
UNIQUE = "ExpectColumnValuesToBeUnique"


def declare(limits: Limits, fractions: Mapping[str, float]) -> dict[str, list[dict[str, Any]]]:
    """Return the suites as plain json: per table a list of expectation, arguments, meaning."""
    return {
        "samples": declare_samples(limits),
        "images": declare_images(limits),
        "cells": [
            expect(
                BETWEEN,
                "fail" if split == "train" else "warn",
                f"every class has samples in {split}",
                "add samples of these classes, or lower validate_data.min_per_class",
                column=split,
                min_value=limits.min_per_class,
            )
            for split in SPLITS
        ],
        "splits": declare_splits(limits, fractions),
    }


def expect(kind: str, verdict: str, says: str, remedy: str, **kwargs: Any) -> dict[str, Any]:
    """Return one expectation: what it amounts to when it is not met, in words, and what to do then."""
    meta = {"verdict": verdict, "says": says, "remedy": remedy}
    return {"type": kind, "kwargs": kwargs, "meta": meta}


def declare_samples(limits: Limits) -> list[dict[str, Any]]:
    """Return what is expected of every row of the manifest."""
    rows = [
        expect("ExpectColumnToExist", "fail", f"column {c} exists", "run ingest_data again", column=c)
        for c in COLUMNS
    ]
    rows += [
        expect(
            "ExpectColumnValuesToBeNull", "fail", "images can be read",
            "repair the files, or raise validate_data.max_unreadable",
            column="error", mostly=1 - limits.max_unreadable,
        ),
        expect(
            UNIQUE, "fail", "every path occurs once",
            "remove the repeated lines from the manifest", column="path",
        ),
        expect(
            IN_SET, "fail", "splits are known", "use train, val and test",
            column="split", value_set=list(SPLITS),
        ),
    ]  # fmt: skip
    if limits.labels is not None:
        remedy = "correct the labels, or validate_data.labels"
        rows.append(
            expect(IN_SET, "fail", "labels are in the list", remedy, column="label", value_set=limits.labels)
        )
    if limits.duplicates != "pass":
        remedy = "keep one file of each pair"
        rows.append(expect(UNIQUE, limits.duplicates, "every content occurs once", remedy, column="sha256"))
    return rows


def declare_images(limits: Limits) -> list[dict[str, Any]]:
    """Return what is expected of every image that can be read."""
    sides = {"min_value": limits.min_side, "max_value": limits.max_side}
    look = "look at these files; they are used as they are"
    return [
        expect(
            IN_SET, "fail", "file formats are allowed ones",
            "convert the files, or add the format to validate_data.formats",
            column="format", value_set=limits.formats,
        ),
        expect(BETWEEN, "warn", "width lies between the limits", look, column="width", **sides),
        expect(BETWEEN, "warn", "height lies between the limits", look, column="height", **sides),
    ]  # fmt: skip


def declare_splits(limits: Limits, fractions: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return what is expected of the data set as a whole."""
    slack = limits.split_tolerance
    shares = [
        expect(
            BETWEEN, "warn", f"the share of {split} is near the one asked for",
            "nothing, if the data set brings its own splits",
            column=split, min_value=max(0.0, fractions[split] - slack),
            max_value=min(1.0, fractions[split] + slack),
        )
        for split in SPLITS
    ]  # fmt: skip
    least = {
        "classes": ("classes", 2),
        "train_samples": ("training samples", 2),
        "val_samples": ("validation samples", 1),
        "test_samples": ("test samples", 1),
    }
    remedy = "add data, or change ingest_data.splits"
    return shares + [
        expect(BETWEEN, "fail", f"there are {what} enough", remedy, column=column, min_value=count)
        for column, (what, count) in least.items()
    ]


def decode_all(folder: Folder, table: pd.DataFrame) -> pd.DataFrame:
    """Decode every image once; return the table with `error` set where that failed."""

    def attempt(row: tuple[str, str | None]) -> str | None:
        path, error = row
        if error is not None:
            return error
        try:
            read_image(folder.read(path))
        except DataError as problem:
            return str(problem)
        return None

    known = [error if isinstance(error, str) else None for error in table["error"]]
    rows = list(zip(table["path"], known, strict=True))
    errors = tqdm(prefetched(attempt, rows, 32), "decoding", len(rows), unit="file", disable=None)
    return table.assign(error=pd.Series(list(errors), index=table.index, dtype=object))


def quarantine(table: pd.DataFrame) -> dict[str, Any]:
    """Return the finding that lists what is left out, each file with its reason."""
    bad = table[table["error"].notna()]
    removed = [{"path": p, "reason": e} for p, e in zip(bad["path"], bad["error"], strict=True)]
    return {
        "check": "no sample had to be left out",
        "verdict": "warn" if removed else "pass",
        "observed": f"{len(removed)} of {len(table)}",
        "files": [row["path"] for row in removed[:SHOWN]],
        "values": [row["reason"] for row in removed[:SHOWN]],
        "accused": len(removed),
        "remedy": "repair or remove these files" if removed else "",
        "quarantined": removed,
    }


def tables_of(samples: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables that the suites are about; `name` says which rows a finding means."""
    usable = samples[samples["error"].isna()]
    labels = sorted(samples["label"].unique())
    cells = pd.crosstab(usable["label"], usable["split"])
    cells = cells.reindex(index=labels, columns=list(SPLITS), fill_value=0)
    counts = cells.sum()
    whole: dict[str, Any] = {
        **{str(split): float(count) / max(1, counts.sum()) for split, count in counts.items()},
        **{f"{split}_samples": int(count) for split, count in counts.items()},
        "classes": int((cells.sum(axis=1) > 0).sum()),
        "name": "the data set",
    }
    return {
        "samples": samples.assign(name=samples["path"]),
        "images": usable.assign(name=usable["path"]),
        "cells": pd.DataFrame({split: cells[split].to_numpy() for split in SPLITS}).assign(name=labels),
        "splits": pd.DataFrame([whole]),
    }


def check(samples: pd.DataFrame, suites: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Run the suites; return a finding per expectation, with the rows it accuses."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    findings = []
    for name, table in tables_of(samples).items():
        asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
        batch = asset.add_batch_definition_whole_dataframe(name).get_batch({"dataframe": table})
        expectations = [getattr(gx.expectations, row["type"])(**row["kwargs"]) for row in suites[name]]
        suite = gx.ExpectationSuite(name, expectations=expectations)
        results = batch.validate(suite, result_format={
            "result_format": "COMPLETE", "unexpected_index_column_names": ["name"],
        })  # fmt: skip
        configured = ((r.expectation_config, r) for r in results.results)
        by_key = {signature(config.type, config.kwargs): r for config, r in configured}
        for row, expectation in zip(suites[name], expectations, strict=True):
            result = by_key[signature(expectation.expectation_type, row["kwargs"])]
            findings.append(finding(row, bool(result.success), result.result, result.exception_info))
    return findings


def signature(kind: str, kwargs: Mapping[str, Any]) -> tuple[str, str]:
    """Identify an expectation within a suite; the results come in an order of their own."""
    return kind, str(kwargs.get("column"))


def finding(row: Mapping[str, Any], success: bool, result: Mapping[str, Any], trouble: Any) -> dict[str, Any]:
    """Put one result into the words of the report."""
    accused = [str(item["name"]) for item in result.get("unexpected_index_list") or []]
    values = [str(value) for value in result.get("unexpected_list") or []]
    observed = f"{len(accused)} of {result['element_count']}" if "element_count" in result else "yes"
    if not success and not accused:
        observed = f"no: {trouble}"[:300]
    return {
        "check": row["meta"]["says"],
        "verdict": "pass" if success else row["meta"]["verdict"],
        "observed": observed,
        "files": accused[:SHOWN],
        "values": values[:SHOWN],
        "accused": len(accused),
        "remedy": "" if success else row["meta"]["remedy"],
        "quarantined": [],
    }
