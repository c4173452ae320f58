"""Has a model seen these samples before? What it was trained and chosen on is kept with it, and found again.

A sample is the same one if its bytes are (SHA-256), or if its picture is a near copy: saved again, in
another size, mirrored, slightly cropped (see `steps.core.modalities.image.near_copies`). For the second a
small grey print of each sample is kept, of a bounded number of them.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from steps.core.data.files import Folder, prefetched
from steps.core.modalities.image.near_copies import near_copies
from steps.core.modalities.image.scan import look_at
from steps.core.system.code import code_digest
from steps.core.system.sealed import seal, unseal
from steps.core.system.storage import write_file

KNOWN = "known.parquet"
SIDE = 24  # pixels of a print's side
LUMINANCE = np.array([0.299, 0.587, 0.114])
FLAT = 2  # of 255: a print whose standard deviation is less shows nothing that could be compared
LEARNT = ("train", "val")  # what a model is trained, stopped and calibrated on

Bools = NDArray[np.bool_]


def with_prints(root: str, table: pd.DataFrame, count: int, scratch: Path) -> pd.DataFrame:
    """Return a table's sha256, split and label, with the `print` (bytes) of as many rows as are kept.

    Rows come in the order of their digests, which is a random one. Of train and val together the first
    `count` get a print, of test as many; the others None. What was computed once is read from `scratch`.
    """
    rows = table.sort_values("sha256", kind="stable", ignore_index=True)
    is_learnt = rows["split"].isin(LEARNT).to_numpy()
    cells: list[bytes | None] = [None] * len(rows)
    for part in (np.flatnonzero(is_learnt)[:count], np.flatnonzero(~is_learnt)[:count]):
        for place, one in zip(part, prints(root, rows.iloc[part], scratch), strict=True):
            cells[place] = one.tobytes()
    return rows[["sha256", "split", "label"]].assign(print=pd.Series(cells, dtype=object))


def prints(root: str, rows: pd.DataFrame, scratch: Path) -> NDArray[np.uint8]:
    """Return the grey prints of files (rows, SIDE, SIDE)."""
    facts = [code_digest(__name__, "steps/core/modalities/"), *rows["sha256"]]
    file = scratch / "prints" / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}.safetensors"
    if (kept := unseal(file)) is None:
        folder = Folder(root, scratch, rows)
        seen = [print_of(p) for _, p in prefetched(lambda p: look_at(folder, p, None), rows["path"], 64)]
        made = torch.from_numpy(np.stack(seen) if seen else np.zeros((0, SIDE, SIDE), np.uint8))
        write_file(file, seal({"prints": made}))
        return made.numpy()
    return kept[0]["prints"].numpy()


def print_of(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the grey print (SIDE, SIDE) of a small picture (side, side, 3)."""
    grey = Image.fromarray((picture @ LUMINANCE).round().astype(np.uint8))
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))


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
        counts = f"{self.by_bytes.sum()} by their bytes, {self.by_print.sum()} by their picture"
        if not self.printed:
            counts += "; no prints are kept with it, so pictures that were saved again pass for unknown"
        elif self.printed < self.known:
            counts += f"; prints are kept of {self.printed} of its {self.known} samples"
        return f"{who} has learnt from {self.any.sum()} ({counts})"


def recognise(asked: pd.DataFrame, known: pd.DataFrame, near_copy: float, clearance: float) -> Recognised:
    """Find samples again among those that a model has learnt from.

    Args:
        asked: Columns sha256 and print (n rows).
        known: The same, of the model's; see `learnt`.
        near_copy: See `validate_data` in params.yaml.
        clearance: The same.
    """
    known = known.drop_duplicates("sha256")
    same = asked["sha256"].isin(known["sha256"]).to_numpy()
    theirs, mine = solid(known["print"]), solid(asked["print"].reset_index(drop=True).where(~same, None))
    copies = np.zeros(len(asked), dtype=bool)
    while True:  # once more without them: what was further from its original than its copies comes into view
        left = mine[~copies[mine.index]]
        more = copies_across(theirs.to_list(), left.to_list(), near_copy, clearance)
        if not len(more):
            return Recognised(same, copies, len(known), int(known["print"].notna().sum()))
        copies[left.index[more]] = True


def copies_across(
    theirs: list[NDArray[np.uint8]], mine: list[NDArray[np.uint8]], near_copy: float, clearance: float
) -> NDArray[np.int64]:
    """Return the places of those among my prints that are near copies of one of theirs."""
    if not theirs or not mine:
        return np.zeros(0, np.int64)
    pictures = np.stack([*theirs, *mine])
    no_embeddings = np.zeros((len(pictures), 0), np.float16)
    pairs, _ = near_copies(pictures, no_embeddings, np.arange(len(pictures)), near_copy, clearance)
    across = (pairs[:, 0] < len(theirs)) & (pairs[:, 1] >= len(theirs))
    return np.unique(pairs[across, 1]) - len(theirs)


def solid(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the prints (SIDE, SIDE) of a column of bytes that show something, at their places."""
    shown = {
        place: np.frombuffer(data, np.uint8).reshape(SIDE, SIDE) for place, data in column.dropna().items()
    }
    return pd.Series({place: one for place, one in shown.items() if one.std() >= FLAT}, dtype=object)
