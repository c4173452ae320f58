"""Accuracy against latency and size: teacher, student, its controls, and who might have been the student."""

from collections.abc import Mapping
from typing import Any

TEACHER, STUDENT = "teacher", "student"
CONTROLS = {
    "student_hard_labels": "student, hard labels only",
    "student_frozen": "student's body as it was, a head only",
}


def pareto_rows(
    metrics: Mapping[str, Any], choice: Mapping[str, Any], figures: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """Return a row per model: what it is, test accuracy with interval, latency, size.

    Controls are networks like the student and cost what it costs. A candidate that was not trained has no
    test accuracy; all candidates have `as_is`, the validation accuracy of a head on their features before
    any training. `front` says of those with a test accuracy that none of them is better at no more cost.
    Where no student was trained, nothing was timed and there is no row.
    """
    if not figures:
        return []
    chosen = choice["chosen"]
    as_is = {one["name"]: one["val_accuracy"] for one in choice["candidates"]}
    tested = {
        TEACHER: (metrics["models"]["finetuned"]["accuracy"], TEACHER),
        f"{STUDENT}: {chosen}": (metrics["models"]["student"]["accuracy"], chosen),
        **{CONTROLS[name]: (row["accuracy"], chosen) for name, row in metrics["controls"].items()},
    }
    rest = {name: (None, name) for name in as_is if name != chosen}
    rows = [
        {"model": name, "accuracy": found, "as_is": as_is.get(cost), **figures[cost]}
        for name, (found, cost) in {**tested, **rest}.items()
    ]
    return [{**row, "front": is_on_front(row, rows)} for row in rows]


def is_on_front(row: Mapping[str, Any], rows: list[dict[str, Any]]) -> bool:
    """Say whether no other row is as good at less cost, or better at no more."""
    if row["accuracy"] is None:
        return False
    mine = pareto_values(row)
    others = (pareto_values(other) for other in rows if other["accuracy"] is not None)
    return not any(
        all(a >= b for a, b in zip(other, mine, strict=True)) and other != mine for other in others
    )


def pareto_values(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return accuracy, latency and size such that more is better."""
    return row["accuracy"]["value"], -row["latency_p50_ms"], -row["megabytes"]
