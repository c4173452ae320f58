"""One look at every text: whether it can be read, what it is made of, and a signature that copies share."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from steps.core.data.files import Source, map_in_threads
from steps.core.modalities.contract import Copies
from steps.core.modalities.text.settings import Settings
from steps.core.modalities.text.tokens import read_text
from steps.core.system.errors import DataError
from steps.core.system.progress import count

SHINGLE = 5  # characters
PERMUTATIONS = 128
BANDS, BAND_ROWS = 16, 8  # copies of similarity 0.9 share a band with a probability of 0.9998
SEED, SCHEME = 1, "affine32"
EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")
NUMBER = re.compile(r"(?:\d[ -]?){13,19}")
NO_FACTS: dict[str, Any] = {
    "error": None, "words": 0, "capitals": 0.0, "digits": 0.0, "marks": 0.0, "replaced": False,
    "personal": False, "plain": "",
}  # fmt: skip

Signatures = NDArray[np.uint32]


@dataclass(frozen=True)
class TextScan:
    """What was seen, a row per row of the manifest; rows with an error are zero elsewhere."""

    facts: pd.DataFrame
    """error, words, share of capitals, digits and punctuation, replaced, personal, plain (see `plain`)."""
    signatures: Signatures
    """MinHash values (samples, PERMUTATIONS)."""
    audited: int
    """How many of the first rows the audit looks at more closely."""

    def select(self, rows: NDArray[np.int64]) -> "TextScan":
        """Return some of the rows, in ascending order."""
        facts = self.facts.iloc[rows].reset_index(drop=True)
        return TextScan(facts, self.signatures[rows], int(np.searchsorted(rows, self.audited)))


def scan_texts(source: Source, table: pd.DataFrame, audited: int) -> TextScan:
    """Read every text of a manifest; a signature of half a kilobyte is kept beside the facts."""
    known = [error if isinstance(error, str) else None for error in table["error"]]
    jobs = list(zip(table["path"], known, strict=True))
    seen = count(map_in_threads(lambda job: inspect(source, *job), jobs, 64), "reading", len(jobs), "text")
    facts = pd.DataFrame(list(seen), columns=list(NO_FACTS))
    return TextScan(facts, signatures(list(facts["plain"])), min(audited, len(jobs)))


def inspect(source: Source, path: str, error: str | None) -> dict[str, Any]:
    """Return the facts of one text."""
    if error is not None:
        return {**NO_FACTS, "error": error}
    try:
        text = read_text(source.read(path))
    except DataError as problem:
        return {**NO_FACTS, "error": str(problem)}
    size = len(text)
    return {
        "error": None,
        "words": len(text.split()),
        "capitals": sum(c.isupper() for c in text) / size,
        "digits": sum(c.isdigit() for c in text) / size,
        "marks": sum(unicodedata.category(c).startswith("P") for c in text) / size,
        "replaced": "\ufffd" in text,
        "personal": bool(EMAIL.search(text)) or any(is_card(found) for found in NUMBER.findall(text)),
        "plain": plain(text),
    }


def plain(text: str) -> str:
    """Return a text without case, accents' spelling, punctuation and repeated space."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[^\w\s]", " ", folded).split())


def is_card(digits: str) -> bool:
    """Say whether digits pass the check of payment cards (Luhn's formula, ISO/IEC 7812-1)."""
    numbers = [int(c) for c in digits if c.isdigit()][::-1]
    doubled = (sum(divmod(2 * n, 10)) for n in numbers[1::2])
    return len(numbers) > 12 and (sum(numbers[::2]) + sum(doubled)) % 10 == 0


def signatures(texts: Sequence[str]) -> Signatures:
    """Return MinHash values (texts, PERMUTATIONS) of the sets of SHINGLE characters (Broder 1997)."""
    blank = MinHash(PERMUTATIONS, seed=SEED, scheme=SCHEME)
    found = np.zeros((len(texts), PERMUTATIONS), np.uint32)
    for row, text in enumerate(texts):
        one = blank.copy()
        one.update_batch(sorted(shingles(text)))
        found[row] = one.hashvalues
    return found


def shingles(text: str) -> set[bytes]:
    """Return all runs of SHINGLE characters of a text; of a shorter one the text."""
    return {text[n : n + SHINGLE].encode() for n in range(max(1, len(text) - SHINGLE + 1))}


def near_copies(scan: TextScan, rows: NDArray[np.int64], threshold: float, near_copy_margin: float) -> Copies:
    """Return pairs of texts that share so much of their runs of characters (Jaccard's index)."""
    texts = scan.facts["plain"]
    pairs = candidate_pairs(scan.signatures[rows], rows)
    found = [(a, b, similarity(texts[a], texts[b])) for a, b in pairs]
    alike = sorted((a, b, share) for a, b, share in found if share >= threshold)
    numbers = np.array([(a, b) for a, b, _ in alike], np.int64).reshape(-1, 2)
    return numbers, np.array([share for *_, share in alike], np.float64)


def variants(scan: TextScan, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say of near copies (pairs, 2) whether a word differs, and not case, punctuation and space alone."""
    texts = scan.facts["plain"].to_numpy()
    found: NDArray[np.bool_] = texts[pairs[:, 0]] != texts[pairs[:, 1]]
    return found.astype(np.bool_)


def candidate_pairs(values: Signatures, rows: Sequence[int] | NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return pairs of `rows`, first below second, whose signatures agree in a band."""
    index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, BAND_ROWS))
    found: set[tuple[int, int]] = set()
    for row, hashes in zip(map(int, rows), values, strict=True):
        one = MinHash(PERMUTATIONS, seed=SEED, hashvalues=hashes, scheme=SCHEME)
        found |= {(min(row, other), max(row, other)) for other in index.query(one)}
        index.insert(row, one, check_duplication=False)
    return sorted(found)


def similarity(one: str, other: str) -> float:
    """Return Jaccard's index of two texts' runs of characters."""
    mine, theirs = shingles(one), shingles(other)
    return len(mine & theirs) / len(mine | theirs)


def prints(source: Source, paths: Sequence[str]) -> NDArray[np.uint8]:
    """Return the signature of every text, as bytes (texts, 4 * PERMUTATIONS)."""
    texts = list(map_in_threads(lambda path: plain(read_text(source.read(path))), paths, 64))
    return signatures(texts).view(np.uint8).reshape(len(texts), -1)


def print_copies(
    theirs: NDArray[np.uint8], mine: NDArray[np.uint8], threshold: float, near_copy_margin: float
) -> NDArray[np.int64]:
    """Return the places among `mine` of signatures that agree with one of `theirs`, as far as they tell."""
    values = np.ascontiguousarray(np.concatenate([theirs, mine])).view(np.uint32)
    pairs = candidate_pairs(values, range(len(values)))
    across = [(a, b) for a, b in pairs if a < len(theirs) <= b]
    alike = {b - len(theirs) for a, b in across if (values[a] == values[b]).mean() >= threshold}
    return np.array(sorted(alike), np.int64)


def refuse(table: pd.DataFrame, settings: Settings) -> list[str | None]:
    """Say of every row why its text is not to be read at all; None where it may be."""
    most = settings.max_characters
    return [
        f"{length} characters, more than modality.text.max_characters ({most})" if length > most else None
        for length in table["length"]
    ]
