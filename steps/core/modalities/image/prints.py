"""Small grey prints by which an image is found again: saved anew, resized, mirrored, slightly cropped."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steps.core.data.files import Source, map_in_threads
from steps.core.modalities.image.near_copies import near_copies
from steps.core.modalities.image.scan import LUMINANCE, inspect_file

SIDE = 24  # pixels of a print's side
FLAT = 2  # of 255: a print whose standard deviation is less shows nothing that could be compared

Prints = NDArray[np.uint8]


def prints(source: Source, paths: Sequence[str]) -> Prints:
    """Return the prints of images (images, SIDE * SIDE)."""
    seen = [print_of(p) for _, p in map_in_threads(lambda p: inspect_file(source, p, None), paths, 64)]
    return np.stack(seen).reshape(len(seen), -1) if seen else np.zeros((0, SIDE * SIDE), np.uint8)


def print_of(picture: NDArray[np.uint8]) -> Prints:
    """Return the grey print (SIDE, SIDE) of a small picture (side, side, 3)."""
    grey = Image.fromarray((picture @ LUMINANCE).round().astype(np.uint8))
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))


def copies_across(
    theirs: Prints, mine: Prints, near_copy: float, near_copy_margin: float
) -> NDArray[np.int64]:
    """Return the places of those among my prints (n, SIDE * SIDE) that are near copies of one of theirs."""
    shown = np.flatnonzero(mine.std(axis=1) >= FLAT)
    theirs = theirs[theirs.std(axis=1) >= FLAT]
    if not len(theirs) or not len(shown):
        return np.zeros(0, np.int64)
    pictures = np.concatenate([theirs, mine[shown]]).reshape(-1, SIDE, SIDE)
    pairs, _ = near_copies(pictures, np.arange(len(pictures)), near_copy, near_copy_margin)
    across = (pairs[:, 0] < len(theirs)) & (pairs[:, 1] >= len(theirs))
    places: NDArray[np.int64] = shown[np.unique(pairs[across, 1]) - len(theirs)]
    return places
