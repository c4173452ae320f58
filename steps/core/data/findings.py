"""What a check of the data set says, in one shape: verdict, files, what it is worth, what to do."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SHOWN = 20  # files named in a finding; all of them are counted, and all that are left out are listed


def mark_repaired(findings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the findings after a repair: what it has dealt with stops nothing any more."""
    return [
        {**row, "verdict": "warn", "remedy": "done: the files were left out"} if row["repair"] else row
        for row in findings
    ]


def not_all(finding: Mapping[str, Any], compared: int, of: int) -> dict[str, Any]:
    """Return a finding that says how many samples it is about, where these are not all."""
    if compared >= of:
        return dict(finding)
    return {**finding, "observed": f"{finding['observed']}; {compared} of {of} compared"}


def make_finding(
    check: str,
    verdict: str,
    files: Sequence[str],
    of: int,
    remedy: str,
    values: Sequence[object] = (),
    impact: str = "",
    leave_out: Iterable[tuple[str, str]] = (),
    pairs: Sequence[tuple[str, str, float]] = (),
) -> dict[str, Any]:
    """Return a finding as plain json.

    Args:
        check: What should be true.
        verdict: `warn` or `fail` where it is not; a finding without files passes.
        files: The accused.
        of: How many were looked at.
        remedy: What to do.
        values: What was found, per file.
        impact: What the finding amounts to, in words and numbers.
        leave_out: Path and reason of what a repair leaves out.
        pairs: Files that belong together, with a similarity; shown side by side.
    """
    bad = bool(files)
    return {
        "check": check,
        "verdict": verdict if bad else "pass",
        "observed": f"{len(files)} of {of}",
        "files": list(files[:SHOWN]),
        "values": [str(value) for value in values[:SHOWN]],
        "affected": len(files),
        "remedy": remedy if bad else "",
        "impact": impact if bad else "",
        "quarantined": [],
        "repair": [{"path": path, "reason": reason} for path, reason in leave_out],
        "pairs": [[one, other, round(similarity, 4)] for one, other, similarity in pairs[:SHOWN]],
    }
