"""What is odd about single images, and what beside their content might give a class away."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.core.data.findings import make_finding
from steps.core.modalities.image.scan import FileScan
from steps.core.modalities.image.settings import Settings

Floats = NDArray[np.float64]

BINS = 8  # of a number that a file is described by: any dependence shows, not only a straight one
FILE_FACTS = ("bytes", "width", "height", "format", "mode", "quantisation", "exif", "shape", "density")
REMEDY = "take care that all classes were photographed and saved alike, or crop"


@dataclass(frozen=True)
class Shortcut:
    """See `steps.core.modalities.parts.Shortcut`."""

    what: str
    x: Floats
    remedy: str = REMEDY


def shortcuts(table: pd.DataFrame, scan: FileScan, rows: NDArray[np.int64]) -> list[Shortcut]:
    """Return what is known of the files alone, and of their borders, of some rows."""
    facts = file_features(table.iloc[rows], scan.select(rows))
    return [
        Shortcut("file size, format and compression", facts),
        Shortcut("the border of the picture", scan.borders[rows].astype(np.float64)),
    ]


def file_features(table: pd.DataFrame, scan: FileScan) -> Floats:
    """Return what is known of each file without its pixels, as indicators (samples, columns)."""
    header = scan.facts[["quantisation", "exif"]].reset_index(drop=True)
    known = table[["bytes", "width", "height", "format", "mode"]].reset_index(drop=True)
    width, height = known["width"].clip(lower=1), known["height"].clip(lower=1)
    facts = known.join(header).assign(shape=width / height, density=known["bytes"] / (width * height))
    for name in FILE_FACTS:
        if pd.api.types.is_numeric_dtype(facts[name]):
            facts[name] = pd.qcut(facts[name], BINS, labels=False, duplicates="drop").fillna(0)
    columns: Floats = pd.get_dummies(facts[list(FILE_FACTS)].astype(str)).to_numpy(dtype=np.float64)
    return columns


def check_images(table: pd.DataFrame, scan: FileScan, settings: Settings) -> list[dict[str, Any]]:
    """Look at what is odd about single files."""
    facts = scan.facts
    empty = table["path"][facts["spread"].to_numpy() < settings.min_spread]
    findings = [
        make_finding(
            "no picture is blank", "warn", list(empty), len(table),
            "remove placeholders and black frames",
        )
    ]  # fmt: skip
    for oddity in ("wrong extension", "animated", "CMYK", "16-bit", "palette", "alpha", "rotated by EXIF"):
        files = list(table["path"][facts["oddities"].str.contains(oddity, regex=False).to_numpy()])
        remedy = "they are read as one upright RGB picture; convert them if that is not meant"
        findings.append(make_finding(f"no file is {oddity}", "warn", files, len(table), remedy))
    grey = facts["oddities"].str.contains("greyscale").to_numpy()
    files = list(table["path"][grey]) if grey.mean() < 0.5 else list(table["path"][~grey])
    if not 0 < grey.mean() < 1:
        files = []
    findings.append(
        make_finding(
            "colour and grey are not mixed",
            "warn",
            files,
            len(table),
            "the class may depend on it: see the shortcut tests",
        )
    )
    return findings
