"""The declarative checks of a manifest: Great Expectations suites in a file beside the params.

Four tables are checked: `samples` (a row per sample), those that can be read, under the name of their
modality (`image`), `cells` (a row per class) and `splits` (one row). A check that fails is a warning, or
stops the pipeline.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from steps.core.audit.limits import Limits
from steps.core.data.files import MISSING
from steps.core.data.splits import SPLITS
from steps.core.modalities.registry import BUILT_IN
from steps.core.system.config import Config
from steps.core.system.errors import ParamsError
from steps.core.tasks.labelling import ONE_LABEL, Labelling

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # before the import, or it is too late

import great_expectations as gx

logging.getLogger("great_expectations").setLevel(logging.WARNING)

VERDICTS = ("pass", "warn", "fail")
SHOWN = 20
ARGUMENTS = frozenset({
    "column", "column_A", "column_B", "column_list", "column_set", "column_index", "exact_match",
    "double_sided", "ignore_row_if", "match_on", "max_value", "min_value", "mostly", "or_equal", "regex",
    "regex_list", "strict_max", "strict_min", "strictly", "strftime_format", "sum_total", "threshold",
    "type_", "type_list", "value", "value_pairs_set", "value_set",
})  # fmt: skip
"""What an expectation may be told. Conditions and queries are expressions, which pandas evaluates as code."""


def load_suites(
    file: Path, limits: Limits, settings: Config, kind: str, fractions: Mapping[str, float]
) -> dict[str, list[dict[str, Any]]]:
    """Read the suites: per table a list of expectation, arguments, and what it amounts to.

    Args:
        file: The suites, as json.
        limits: What a `$name` stands for.
        settings: Of the modality; as limits.
        kind: The modality: the table of that name is of its readable samples.
        fractions: The share of each split that was asked for.

    A text that begins with $ stands for a limit of that name; an expectation of which an argument is
    null, or the verdict `pass`, is left out.

    Raises:
        ParamsError: The file is no such suite; names the entry.
    """
    values, tables = known_values(limits, settings, fractions), tables_for(kind)
    try:
        suites = json.loads(file.read_text(encoding="utf-8-sig"))
        entries = [(table, entry) for table in tables for entry in suites.pop(table, [])]
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ParamsError(f"validate_data.suite: {file} cannot be read: {error}") from None
    unknown = [table for table in suites if table not in BUILT_IN and "." not in table]
    if unknown:
        raise ParamsError(f"validate_data.suite: {file} has {sorted(unknown)}, expected {list(tables)}")
    found: dict[str, list[dict[str, Any]]] = {table: [] for table in tables}
    for table, entry in entries:
        row = filled_entry(entry, values, f"validate_data.suite: {file}, {table}")
        if row is not None:
            found[table].append(row)
    return found


def tables_for(kind: str) -> tuple[str, str, str, str]:
    """Return the tables that are checked where samples are of a modality, in order."""
    return ("samples", kind, "cells", "splits")


def known_values(limits: Limits, settings: Config, fractions: Mapping[str, float]) -> dict[str, Any]:
    """Return what a $name in the suites may stand for."""
    slack = limits.split_tolerance
    return {
        **settings.model_dump(),
        **limits.model_dump(),
        "min_readable": 1 - limits.max_unreadable,
        **{f"least_{split}": max(0.0, fractions[split] - slack) for split in SPLITS},
        **{f"most_{split}": min(1.0, fractions[split] + slack) for split in SPLITS},
    }


def filled_entry(entry: Any, values: Mapping[str, Any], place: str) -> dict[str, Any] | None:
    """Return one entry with its $names filled in; None if it does not apply.

    Raises:
        ParamsError: A part is missing, or a name or an expectation unknown.
    """
    try:
        meta = {name: str(entry["meta"][name]) for name in ("verdict", "says", "remedy")}
        kind, kwargs = str(entry["type"]), dict(entry["kwargs"])
        kwargs = {name: fill(value, values) for name, value in kwargs.items()}
        meta["verdict"] = fill(meta["verdict"], values)
    except (KeyError, TypeError, ValueError) as error:
        raise ParamsError(f"{place}: {str(entry)[:200]}: {error!r} is missing or unknown") from None
    known = kind.startswith("Expect") and isinstance(getattr(gx.expectations, kind, None), type)
    if meta["verdict"] not in VERDICTS or not known:
        raise ParamsError(f"{place}: {kind} is no expectation, or {meta['verdict']!r} none of {VERDICTS}")
    if odd := sorted(
        str(name) for name, value in kwargs.items() if name not in ARGUMENTS or not plain(value)
    ):
        raise ParamsError(
            f"{place}: {kind}: {', '.join(odd)} is refused, since it could run code: expected numbers, texts "
            f"and lists of them, for {', '.join(sorted(ARGUMENTS))}"
        )
    if meta["verdict"] == "pass" or None in kwargs.values():
        return None
    return {"type": kind, "kwargs": kwargs, "meta": meta}


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """Replace a $name by its value."""
    return values[value[1:]] if isinstance(value, str) and value.startswith("$") else value


def plain(value: Any) -> bool:
    """Say whether an argument is a scalar, or a list of scalars or of lists of them."""
    if isinstance(value, list):
        return all(plain(item) for item in value)
    return value is None or isinstance(value, str | int | float)


def corrections_finding(table: pd.DataFrame) -> dict[str, Any]:
    """Return the finding that records the labels which a person has corrected."""
    rows = table[table["corrected_from"].notna()]
    delta = [f"{old} -> {new}" for old, new in zip(rows["corrected_from"], rows["label"], strict=True)]
    return {
        "check": "labels corrected by hand are applied",
        "verdict": "pass",
        "observed": f"{len(rows)} of {len(table)}",
        "files": list(rows["path"][:SHOWN]),
        "values": delta[:SHOWN],
        "affected": len(rows),
        "remedy": "",
        "quarantined": [],
    }


def quarantine_finding(table: pd.DataFrame) -> dict[str, Any]:
    """Return the finding that lists what is left out, each file with its reason."""
    bad = table[table["error"].notna()]
    removed = [{"path": p, "reason": e} for p, e in zip(bad["path"], bad["error"], strict=True)]
    return {
        "check": "no sample had to be left out",
        "verdict": "warn" if removed else "pass",
        "observed": f"{len(removed)} of {len(table)}",
        "files": [row["path"] for row in removed[:SHOWN]],
        "values": [row["reason"] for row in removed[:SHOWN]],
        "affected": len(removed),
        "remedy": "repair or remove these files" if removed else "",
        "quarantined": removed,
    }


def tables_of(samples: pd.DataFrame, kind: str, labelling: Labelling = ONE_LABEL) -> dict[str, pd.DataFrame]:
    """Return the tables that the suites are about; `name` says which rows a finding means.

    A file that is not there is `missing` with a reason, and no error of a file that is.
    """
    usable = samples[samples["error"].isna()]
    gone = samples["error"].astype(str).str.startswith(MISSING)
    unread = samples["error"].mask(gone, None)
    labels = sorted(labelling.explode(samples["label"]).unique())
    members = labelling.explode(usable["label"])
    cells = pd.crosstab(members.to_numpy(), usable["split"].loc[members.index].to_numpy())
    cells = cells.reindex(index=labels, columns=list(SPLITS), fill_value=0)
    counts = usable["split"].value_counts().reindex(list(SPLITS), fill_value=0)
    whole: dict[str, Any] = {
        **{str(split): float(count) / max(1, counts.sum()) for split, count in counts.items()},
        **{f"{split}_samples": int(count) for split, count in counts.items()},
        "classes": int((cells.sum(axis=1) > 0).sum()),
        "name": "the data set",
    }
    tables = (
        samples.assign(name=samples["path"], error=unread, missing=samples["error"].where(gone, None)),
        usable.assign(name=usable["path"]),
        pd.DataFrame({split: cells[split].to_numpy() for split in SPLITS}).assign(name=labels),
        pd.DataFrame([whole]),
    )
    return dict(zip(tables_for(kind), tables, strict=True))


def run_suites(
    samples: pd.DataFrame,
    suites: Mapping[str, list[dict[str, Any]]],
    kind: str,
    labelling: Labelling = ONE_LABEL,
) -> list[dict[str, Any]]:
    """Run the suites on samples of a modality; return a finding per expectation, with the rows it accuses."""
    suites = {
        name: [allow_label_sets(row, samples, labelling) for row in rows] for name, rows in suites.items()
    }
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    findings = []
    for name, table in tables_of(samples, kind, labelling).items():
        asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
        batch = asset.add_batch_definition_whole_dataframe(name).get_batch({"dataframe": table})
        expectations = [build_expectation(row, number) for number, row in enumerate(suites[name])]
        suite = gx.ExpectationSuite(name, expectations=expectations)
        results = batch.validate(suite, result_format={
            "result_format": "COMPLETE", "unexpected_index_column_names": ["name"],
        })  # fmt: skip
        by_number = {r.expectation_config.meta["number"]: r for r in results.results}
        for number, row in enumerate(suites[name]):  # the results come in an order of their own
            result = by_number[number]
            findings.append(suite_finding(row, bool(result.success), result.result, result.exception_info))
    return findings


def allow_label_sets(row: dict[str, Any], samples: pd.DataFrame, labelling: Labelling) -> dict[str, Any]:
    """Let a list of allowed labels speak of cells: a set of labels is allowed if each of them is."""
    kwargs = row["kwargs"]
    if row["type"] != "ExpectColumnValuesToBeInSet" or kwargs.get("column") != "label":
        return row
    return {
        **row,
        "kwargs": {**kwargs, "value_set": labelling.allowed_cells(samples["label"], kwargs["value_set"])},
    }


def build_expectation(row: Mapping[str, Any], number: int) -> Any:
    """Make an expectation; its number finds the result again.

    Raises:
        ParamsError: The arguments do not fit.
    """
    try:
        return getattr(gx.expectations, row["type"])(**row["kwargs"], meta={"number": number})
    except (ValueError, TypeError) as error:
        says = row["meta"]["says"]
        raise ParamsError(f"validate_data.suite: {says!r}: {row['type']} refuses: {error}") from None


def suite_finding(
    row: Mapping[str, Any], success: bool, result: Mapping[str, Any], trouble: Any
) -> dict[str, Any]:
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
        "affected": len(accused),
        "remedy": "" if success else row["meta"]["remedy"],
        "quarantined": [],
    }
