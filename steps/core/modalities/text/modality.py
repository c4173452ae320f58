"""Text behind the seam; see `steps.core.modalities.contract.Modality`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from torch import Tensor, nn

from steps.core.backbones import transformers_adapter
from steps.core.backbones.network import Backbone
from steps.core.data.files import Source, map_in_threads
from steps.core.modalities.text.attribution import attribute, highlighted
from steps.core.modalities.text.checks import check_texts, shortcuts
from steps.core.modalities.text.control import CONTROL, control_answers
from steps.core.modalities.text.corruptions import corruptions
from steps.core.modalities.text.pretrained import DEFAULT, find_weights, licence, pretrained
from steps.core.modalities.text.scan import (
    TextScan,
    near_copies,
    print_copies,
    prints,
    refuse,
    scan_texts,
    variants,
)
from steps.core.modalities.text.settings import Settings
from steps.core.modalities.text.tokens import CELL, Preprocessing, Views, read_text
from steps.core.system.errors import DataError

__all__ = [
    "attribute", "control_answers", "corruptions", "find_weights", "licence", "near_copies", "pretrained",
    "print_copies", "prints", "refuse", "shortcuts", "variants",
]  # fmt: skip

name = "text"
endings: tuple[str, ...] = (".txt",)
unread_endings: Mapping[str, str] = {}
blank_facts: Mapping[str, Any] = {"length": 0}
default_backbone = DEFAULT
control = CONTROL
scan = scan_texts
check = check_texts
views_of = Views.from_meta
deterministic_views = Views.deterministic
preprocessing = Preprocessing.from_dict
show_attribution = highlighted

COLUMNS = (
    "text", "sentence", "review", "content", "message", "body", "tweet", "utterance", "question", "document",
    "abstract",
)  # fmt: skip
"""Names of a column that holds texts, in any case; the first of them that a table has is taken."""
SHOWN = 400  # characters of a text in a report


@dataclass
class TokenCounts:
    """How long texts are; see `steps.core.modalities.parts.Moments`."""

    count: int
    tokens: NDArray[np.float64]
    """Of every text, before it is cut (texts,)."""

    def mean(self) -> list[float]:
        """Return the mean number of tokens."""
        return [float(self.tokens.mean())]

    def std(self) -> list[float]:
        """Return the standard deviation of the number of tokens."""
        return [float(self.tokens.std())]


@dataclass(frozen=True)
class TokenInput:
    """Token numbers int64 (n, tokens), as the tokenizer beside the file makes them."""

    preprocessing: Preprocessing
    name: str = CELL

    description = "a text: the numbers that its tokenizer, tokenizer.json, gives its tokens"
    input_format = "int64 token numbers of n x tokens"
    request = json.dumps({CELL: ["a sentence"]})

    def module(self) -> nn.Module:
        """Return nothing: the network's first stage takes token numbers."""
        return nn.Identity()

    def example(self) -> Tensor:
        """Return two texts of an uneven length."""
        return torch.full((2, 21), self.preprocessing.mask)

    def dynamic_axes(self) -> dict[int, str]:
        """Return the length of the longest."""
        return {1: "tokens"}

    def encode(self, sample: str) -> NDArray[np.int64]:
        """Return a text's token numbers (tokens,)."""
        return np.array(self.preprocessing.numbers(sample), np.int64)

    def size(self, data: bytes) -> list[int]:
        """Return the length in characters."""
        return [len(data)]


def columns_of(table: pd.DataFrame) -> list[str]:
    """Return the column that holds texts."""
    lower = {str(column).lower(): str(column) for column in table.columns}
    return next(([lower[one]] for one in COLUMNS if one in lower), [])


def fits_hub(features: Mapping[str, Any]) -> bool:
    """Say whether a hub data set has a column of texts."""
    return bool(columns_of(pd.DataFrame(columns=list(features))))


def write_hub_split(rows: Any, folder: Path) -> None:
    """Write a split as files: class/number.txt."""
    (column,) = columns_of(pd.DataFrame(columns=list(rows.features)))
    names = getattr(rows.features["label"], "names", None)
    for number, row in enumerate(rows):
        label = names[row["label"]] if names else str(row["label"])
        place = folder / label.replace("/", "_")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:07d}.txt").write_text(str(row[column]), encoding="utf-8")


def describe(data: bytes) -> dict[str, Any]:
    """Return the length in characters."""
    return {"length": len(read_text(data))}


def comparable_rows(scan: TextScan, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows that are more than punctuation."""
    return rows[(scan.facts["plain"].iloc[rows] != "").to_numpy()]


def measure(source: Source, paths: Sequence[str], preprocessing: Preprocessing) -> TokenCounts:
    """Count the tokens of all `paths`."""
    uncut = Preprocessing.from_dict({**preprocessing.to_dict(), "max_length": preprocessing.max_length * 64})
    counts = map_in_threads(lambda path: len(uncut.numbers(read_text(source.read(path)))), paths, 64)
    tokens = np.fromiter(counts, np.float64, len(paths))
    return TokenCounts(int(tokens.sum()), tokens)


def normalisations(pretrained: Preprocessing, moments: TokenCounts) -> dict[str, Preprocessing]:
    """Return the one way there is."""
    return {"pretrained": pretrained}


def undecided(settings: Settings) -> list[str]:
    """Return nothing: a text has no symmetry that would leave its meaning alone."""
    return []


def symmetric_views(preprocessing: Preprocessing, symmetry: str) -> Views:
    """Refuse: there are none."""
    raise KeyError(symmetry)


def decided(settings: Settings, kept: Mapping[str, bool]) -> Settings:
    """Return the settings."""
    return settings


def views(preprocessing: Preprocessing, settings: Settings, seed: int) -> Views:
    """Return the views of a training."""
    return Views(preprocessing, settings.token_dropout, seed)


def load_backbone(name: str, preprocessing: Preprocessing, weights: str | None) -> Backbone:
    """Build an encoder and cut it into stages."""
    return transformers_adapter.load(name, preprocessing.facts, weights)


def slice_facts(sample: str, view: Tensor) -> dict[str, float]:
    """Return the text's length in characters, and the share of capitals and digits."""
    size = max(1, len(sample))
    return {
        "length": float(len(sample)),
        "capitals": round(sum(c.isupper() for c in sample) / size, 6),
        "digits": round(sum(c.isdigit() for c in sample) / size, 6),
    }


def show(data: bytes, alt: str = "") -> str:
    """Return the text, cut where it is long."""
    text = read_text(data)
    short = text if len(text) <= SHOWN else f"{text[:SHOWN]} …"
    return Markup('<span class="sample" title="{}">{}</span>').format(alt, short)


def input_graph(preprocessing: Preprocessing) -> TokenInput:
    """Return what stands before the network in an exported file."""
    return TokenInput(preprocessing)


def from_request(value: Any) -> bytes:
    """Return the bytes of a text.

    Raises:
        DataError: It is none.
    """
    if not isinstance(value, str):
        raise DataError("no text")
    return json.dumps({CELL: value}).encode()
