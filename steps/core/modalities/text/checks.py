"""What is odd about single texts, and what beside their words might give a class away."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.core.data.findings import make_finding
from steps.core.modalities.text.pretrained import estimated_tokens
from steps.core.modalities.text.scan import TextScan
from steps.core.modalities.text.settings import Settings

Floats = NDArray[np.float64]

BINS = 8  # of a number that a text is described by: any dependence shows, not only a straight one
STYLE = ("capitals", "digits", "marks")
OPENING_WORDS = 6
OPENING_SHARE = 0.05  # of all texts that begin alike, from which that is a heading and no sentence
MIN_OPENINGS = 10


@dataclass(frozen=True)
class Shortcut:
    """See `steps.core.modalities.parts.Shortcut`."""

    what: str
    x: Floats
    remedy: str = "collect all classes from the same places, or cut what only some of them have"


def shortcuts(table: pd.DataFrame, scan: TextScan, rows: NDArray[np.int64]) -> list[Shortcut]:
    """Return how long texts are, and how they are typed, of some rows."""
    facts = scan.facts.iloc[rows].assign(length=table["length"].to_numpy()[rows])
    return [
        Shortcut("the length of the text", binned(facts[["length", "words"]])),
        Shortcut("capitals, digits and punctuation", binned(facts[list(STYLE)])),
    ]


def binned(facts: pd.DataFrame) -> Floats:
    """Return numbers as indicators of BINS quantiles (samples, columns)."""
    ranks = {
        name: pd.qcut(values, BINS, labels=False, duplicates="drop").fillna(0).astype(int).astype(str)
        for name, values in facts.items()
    }
    found: Floats = pd.get_dummies(pd.DataFrame(ranks)).to_numpy(dtype=np.float64)
    return found


def check_texts(table: pd.DataFrame, scan: TextScan, settings: Settings) -> list[dict[str, Any]]:
    """Look at what is odd about single texts, and how many are longer than what is read of them."""
    facts, paths, size = scan.facts, table["path"].to_numpy(), len(table)

    def named(rows: Any) -> list[str]:
        return list(paths[np.asarray(rows, dtype=bool)])

    return [
        make_finding(
            "texts have words", "warn", named(facts["words"] < settings.min_words), size,
            "remove fragments, or lower modality.text.min_words",
        ),
        make_finding(
            "texts were decoded as they were written", "warn", named(facts["replaced"]), size,
            "save the source as UTF-8 again: characters were lost",
        ),
        make_finding(
            "no text holds an address or a card number", "warn", named(facts["personal"]), size,
            "remove personal data, or be sure that you may keep it: it goes into caches and reports",
        ),
        make_finding(
            "texts do not begin alike", "warn", named(opens_alike(facts["plain"])), size,
            "cut headings and signatures: a model learns them",
        ),
        cut_texts(table, settings),
    ]  # fmt: skip


def opens_alike(texts: "pd.Series[str]") -> "pd.Series[bool]":
    """Say which texts begin with words with which many of the others begin."""
    openings = texts.map(lambda text: " ".join(text.split()[:OPENING_WORDS]))
    whole = texts.map(lambda text: len(text.split()) > OPENING_WORDS)
    counts = Counter(openings[whole])
    least = max(MIN_OPENINGS, OPENING_SHARE * len(texts))
    found: pd.Series[bool] = whole & openings.map(lambda opening: counts[opening] >= least)
    return found


def cut_texts(table: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """Name the texts that are longer than what is read of them, by an estimate of their tokens."""
    most = settings.max_auto_length if settings.max_length == "auto" else settings.max_length
    tokens = table["length"].map(estimated_tokens)
    longer = tokens > most
    kept = float(np.minimum(tokens, most).sum() / max(1.0, tokens.sum()))
    each = longer.groupby(table["label"].astype(str)).mean().sort_values(ascending=False)
    worst = ", ".join(f"{name} {share:.0%}" for name, share in each.head(3).items())
    return make_finding(
        "texts are read to their end", "warn", list(table["path"][longer]), len(table),
        "raise modality.text.max_length (max_auto_length): time grows with it; or split long texts",
        impact=f"about {kept:.0%} of all tokens are read; texts that are cut: {worst}",
    )  # fmt: skip
