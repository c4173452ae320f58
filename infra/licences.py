"""Write licences.csv, what everything here is used under: `python -m infra.licences`."""

import csv
import io
import re
from importlib import metadata
from pathlib import Path

from steps.core.backbones.weights import PACKAGED
from steps.core.modalities.text.pretrained import PACKAGED as PACKAGED_ENCODERS

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "licences.csv"
COLUMNS = ("kind", "name", "version", "licence")
LONGEST = 80  # characters; some packages put the whole text there


def pinned() -> list[tuple[str, str]]:
    """Return name and version of every package in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    return sorted((name.strip(), version.strip()) for name, _, version in pairs)


def licence(name: str) -> str:
    """Return what an installed package says of its licence; `not installed` where it is not."""
    try:
        facts = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return "not installed"
    stated = facts.get("License-Expression") or first_line(facts.get("License") or "")
    classes = [
        c.rpartition(" :: ")[2] for c in facts.get_all("Classifier") or [] if c.startswith("License ::")
    ]
    return stated or "; ".join(classes) or "not stated"


def first_line(text: str) -> str:
    """Return a licence's name, or nothing where its text stands instead of it."""
    line = re.sub(r"\s+", " ", text.strip().partition("\n")[0])
    return line if len(line) <= LONGEST and line.upper() != "UNKNOWN" else ""


def recorded() -> dict[tuple[str, str, str], str]:
    """Return what the file says now: licence by kind, name and version."""
    with FILE.open(encoding="utf-8", newline="") as file:
        _, *lines = csv.reader(file)
    return {(kind, name, version): stated for kind, name, version, stated in lines}


def rows() -> list[tuple[str, str, str, str]]:
    """Return a row for every package that is installed, and for every packaged backbone.

    What an extra installs may be missing here: its row is kept as long as its version is.
    """
    known = recorded()
    found = [("package", name, version, licence(name)) for name, version in pinned()]
    found = [row if row[3] != "not installed" else (*row[:3], known.get(row[:3], row[3])) for row in found]
    models = [
        ("weights", name, one.sha256[:16], one.licence)
        for name, one in [*PACKAGED.items(), *PACKAGED_ENCODERS.items()]
    ]
    return [row for row in found if row[3] != "not installed"] + models


def text() -> str:
    """Return the file's content."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([COLUMNS, *rows()])
    return buffer.getvalue()


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
