"""Has a model seen these samples before? What it was trained and chosen on is kept with it, and found again.

A sample is the same one if its bytes are (SHA-256), or if it is a near copy, as its modality finds them (of
images: saved again, in another size, mirrored, slightly cropped). For the second a small print of each sample
is kept, of a bounded number of them.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from steps.core.data.rows import open_source
from steps.core.modalities.contract import Modality
from steps.core.system.checksummed import load_checked, with_checksum
from steps.core.system.code import code_digest
from steps.core.system.storage import write_file

KNOWN = "known.parquet"
LEARNT = ("train", "val")  # what a model is trained, stopped and calibrated on

Bools = NDArray[np.bool_]


def with_prints(kind: Modality, root: str, table: pd.DataFrame, count: int, scratch: Path) -> pd.DataFrame:
    """Return a table's sha256, split and label, with the `print` (bytes) of as many rows as are kept.

    Rows come in the order of their digests, which is a random one. Of train and val together the first
    `count` get a print, of test as many; the others None. What was computed once is read from `scratch`.
    """
    rows = table.sort_values("sha256", kind="stable", ignore_index=True)
    is_learnt = rows["split"].isin(LEARNT).to_numpy()
    cells: list[bytes | None] = [None] * len(rows)
    for part in (np.flatnonzero(is_learnt)[:count], np.flatnonzero(~is_learnt)[:count]):
        for place, one in zip(part, prints(kind, root, rows.iloc[part], scratch), strict=True):
            cells[place] = one.tobytes()
    return rows[["sha256", "split", "label"]].assign(print=pd.Series(cells, dtype=object))


def prints(kind: Modality, root: str, rows: pd.DataFrame, scratch: Path) -> NDArray[np.uint8]:
    """Return the prints of samples (rows, bytes)."""
    facts = [kind.name, code_digest(kind.__name__, without="steps/core/system/"), *rows["sha256"]]
    file = scratch / "prints" / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}.safetensors"
    if (kept := load_checked(file)) is None:
        made = torch.from_numpy(kind.prints(open_source(root, scratch, rows), list(rows["path"])))
        write_file(file, with_checksum({"prints": made}))
        return made.numpy()
    return kept[0]["prints"].numpy()


def known_rows(own: pd.DataFrame, ancestor: pd.DataFrame | None) -> pd.DataFrame:
    """Return what is kept with a model: its data set, and what the model it goes on from had learnt.

    Args:
        own: See `with_prints`.
        ancestor: What is kept with the model whose weights it began with, if any.

    Returns:
        Columns sha256, split, label, print and inherited: whether the data set does not have it any more.
    """
    kept = own.assign(inherited=False)
    kept["print"] = kept["print"].where(kept["split"].isin(LEARNT), None)
    if ancestor is None:
        return kept
    more = learnt(ancestor)
    more = more[~more["sha256"].isin(own["sha256"])].assign(inherited=True)
    return pd.concat([kept, more[list(kept)]], ignore_index=True)


def learnt(known: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of what is kept with a model that it was trained or chosen on.

    Versions that were registered before there were prints have none.
    """
    rows = known[known["split"].isin(LEARNT)]
    return rows if "print" in rows else rows.assign(print=None)


@dataclass(frozen=True)
class Recognised:
    """Which of some samples (n,) a model has learnt from, and how that is known."""

    by_bytes: Bools
    by_print: Bools
    known: int
    """Samples that it has learnt from."""
    printed: int
    """Of these, with a print."""

    @property
    def any(self) -> Bools:
        """Whether it has learnt from them, however that is known."""
        return self.by_bytes | self.by_print

    def said(self, who: str) -> str:
        """Put it into words."""
        counts = f"{self.by_bytes.sum()} by their bytes, {self.by_print.sum()} by their print"
        if not self.printed:
            counts += "; no prints are kept with it, so samples that were saved again pass for unknown"
        elif self.printed < self.known:
            counts += f"; prints are kept of {self.printed} of its {self.known} samples"
        return f"{who} has learnt from {self.any.sum()} ({counts})"


def recognise(
    kind: Modality, asked: pd.DataFrame, known: pd.DataFrame, near_copy: float, near_copy_margin: float
) -> Recognised:
    """Find samples again among those that a model has learnt from.

    Args:
        kind: The modality of all of them.
        asked: Columns sha256 and print (n rows).
        known: The same, of the model's; see `learnt`.
        near_copy: See `validate_data` in params.yaml.
        near_copy_margin: The same.
    """
    known = known.drop_duplicates("sha256")
    same = asked["sha256"].isin(known["sha256"]).to_numpy()
    mine = asked["print"].reset_index(drop=True).where(~same, None).dropna()
    theirs = stacked(known["print"].dropna())
    copies = np.zeros(len(asked), dtype=bool)
    while True:  # once more without them: what was further from its original than its copies comes into view
        left = mine[~copies[mine.index]]
        more = kind.print_copies(theirs, stacked(left), near_copy, near_copy_margin)
        if not len(more):
            return Recognised(same, copies, len(known), int(known["print"].notna().sum()))
        copies[left.index[more]] = True


def stacked(column: "pd.Series[Any]") -> NDArray[np.uint8]:
    """Return the prints of a column of bytes (rows, bytes)."""
    found = [np.frombuffer(data, np.uint8) for data in column]
    return np.stack(found) if found else np.zeros((0, 1), np.uint8)
