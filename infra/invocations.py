"""What a request to `/invocations` holds: MLflow's scoring protocol, read without trust.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/ describes the five forms.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

FORMS = ("dataframe_records", "dataframe_split", "instances", "inputs")
JSON, CSV = "application/json", "text/csv"


class Refused(Exception):
    """Raised for a request that is not answered with predictions; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_values(body: bytes, content_type: str, column: str) -> list[Any]:
    """Return what a request holds in a column, a value per sample.

    Raises:
        Refused: The body is of another type (415), or is no such request (400).
    """
    kind, _, parameters = (part.strip().lower() for part in content_type.partition(";"))
    if parameters not in ("", "charset=utf-8") or kind not in (JSON, CSV):
        raise Refused(415, f"content type {content_type[:80]!r}: expected {JSON} or {CSV}, in UTF-8")
    return read_csv(body, column) if kind == CSV else read_json(body, column)


def read_csv(body: bytes, column: str) -> list[Any]:
    """Return a column of comma-separated text."""
    import pandas as pd

    try:
        table = pd.read_csv(io.BytesIO(body), dtype=str, keep_default_na=False, index_col=False)
    except (ValueError, OverflowError):  # the parser's own, and bytes that are no UTF-8
        raise Refused(400, "the body cannot be read as comma-separated text in UTF-8") from None
    if column not in table.columns:
        raise Refused(400, f"the first line has no column {column}")
    return list(table[column])


def read_json(body: bytes, column: str) -> list[Any]:
    """Return a column of one of MLflow's four forms in JSON."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body cannot be read as JSON in UTF-8") from None
    forms = [form for form in FORMS if isinstance(found, dict) and form in found]
    if len(forms) != 1:
        raise Refused(400, f"expected a JSON object with exactly one of {', '.join(FORMS)}")
    values = (read_split if forms == ["dataframe_split"] else read_rows)(found[forms[0]], column)
    if values is None:
        raise Refused(400, f"{forms[0]} holds no column {column}")
    return values


def read_split(content: Any, column: str) -> list[Any] | None:
    """Return a column of `{"columns": [...], "data": [[...], ...]}`; None where it is none."""
    if not isinstance(content, Mapping):
        return None
    columns, rows = content.get("columns"), content.get("data")
    if not isinstance(columns, list) or not isinstance(rows, list) or column not in columns:
        return None
    place = columns.index(column)
    if any(not isinstance(row, list) or len(row) != len(columns) for row in rows):
        return None
    return [row[place] for row in rows]


def read_rows(content: Any, column: str) -> list[Any] | None:
    """Return a column of a list of rows, of a table of columns, or of a list of values; None: it is none."""
    if isinstance(content, Mapping):
        found = content.get(column)
        return found if isinstance(found, list) else None
    if not isinstance(content, list):
        return None
    if not any(isinstance(row, Mapping) for row in content):
        return content
    if any(not isinstance(row, Mapping) or column not in row for row in content):
        return None
    return [row[column] for row in content]
