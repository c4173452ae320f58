"""One look at every file: whether it decodes, what is odd about it, a fingerprint, its border.

Each file is read and decoded once, in threads; what is kept of an image does not grow with its size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from steps.core.data.files import Source, map_in_threads
from steps.core.modalities.image.pixels import ORIENTATION, decode, one_at_a_time, open_image
from steps.core.modalities.image.settings import Settings
from steps.core.system.errors import DataError
from steps.core.system.progress import count

SIDE = 48  # pixels of a fingerprint's side
COLOUR_SIDE = 8
MIN_DECODED_SIDE = 72  # pixels of the shorter side that a JPEG is decoded to, at least
BORDER = 3  # pixels of it: the strip that the border's shortcut test sees
LUMINANCE = np.array([0.299, 0.587, 0.114])
BLOCK = 256  # pictures that are described at once
ENDINGS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "PNG": {".png"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "WEBP": {".webp"},
    "TIFF": {".tif", ".tiff"},
    "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
    "AVIF": {".avif", ".avifs"},
    "HEIF": {".heic", ".heif", ".hif"},
}


@dataclass(frozen=True)
class FileScan:
    """What was seen, a row per row of the manifest; rows with an error are zero elsewhere."""

    facts: pd.DataFrame
    """error, oddities (words, joined by a comma), spread of luminance, quantisation, exif (tags)."""
    prints: NDArray[np.uint8]
    """Grey fingerprints (samples, SIDE, SIDE)."""
    colours: NDArray[np.int8]
    """Half of what blue and red are above grey (samples, 2, COLOUR_SIDE, COLOUR_SIDE)."""
    borders: NDArray[np.float32]
    """What the border of the first rows looks like (audited, 36); see `borders_of`."""

    @property
    def audited(self) -> int:
        """Of how many of the first rows the border is known."""
        return len(self.borders)

    def select(self, rows: NDArray[np.int64]) -> "FileScan":
        """Return some of the rows, which are given in ascending order; all of them are no copy."""
        if len(rows) == len(self.facts):
            return self
        facts = self.facts.iloc[rows].reset_index(drop=True)
        audited = rows[: np.searchsorted(rows, len(self.borders))]
        return FileScan(facts, self.prints[rows], self.colours[rows], self.borders[audited])


def scan_files(source: Source, table: pd.DataFrame, audited: int) -> FileScan:
    """Look at every file of a manifest; 2.4 kB each are kept beside the facts, and borders of the first."""
    known = [error if isinstance(error, str) else None for error in table["error"]]
    jobs = list(zip(table["path"], known, strict=True))
    inspected_files = map_in_threads(lambda job: inspect_file(source, *job), jobs, 64)
    seen = count(inspected_files, "decoding", len(jobs), "image")
    audited = min(audited, len(jobs))
    prints = np.zeros((len(jobs), SIDE, SIDE), np.uint8)
    colours = np.zeros((len(jobs), 2, COLOUR_SIDE, COLOUR_SIDE), np.int8)
    borders = np.zeros((audited, 36), np.float32)
    facts = [pd.DataFrame(columns=[*NO_FACTS, "spread"])] if not jobs else []
    for first in range(0, len(jobs), BLOCK):
        inspected = list(islice(seen, BLOCK))
        small = np.stack([picture for _, picture in inspected])
        grey = small @ LUMINANCE
        facts_of_block = pd.DataFrame([fact for fact, _ in inspected], columns=list(NO_FACTS))
        facts.append(facts_of_block.assign(spread=grey.std(axis=(1, 2)) / 255))
        prints[first : first + len(inspected)] = grey.round()
        colours[first : first + len(inspected)] = colours_of(small, grey)
        kept = max(0, min(len(inspected), audited - first))
        borders[first : first + kept] = borders_of(small[:kept])
    return FileScan(pd.concat(facts, ignore_index=True), prints, colours, borders)


NO_FACTS: dict[str, Any] = {"error": None, "oddities": "", "quantisation": 0.0, "exif": 0.0}
BLANK_PICTURE = np.zeros((SIDE, SIDE, 3), np.uint8)


def inspect_file(source: Source, path: str, error: str | None) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Return the facts of one file, and its picture at SIDE x SIDE.

    A JPEG is decoded smaller, which is faster and still reads every byte of it.
    """
    if error is not None:
        return {**NO_FACTS, "error": error}, BLANK_PICTURE
    try:
        header = open_image(source.read(path))
        with one_at_a_time(header):
            image = decode(header, MIN_DECODED_SIDE)
            small = image.reduce(max(1, min(image.size) // MIN_DECODED_SIDE))
        return {**NO_FACTS, **facts_of(header, path)}, np.asarray(
            small.resize((SIDE, SIDE), Image.Resampling.BOX)
        )
    except DataError as problem:
        return {**NO_FACTS, "error": str(problem)}, BLANK_PICTURE


def facts_of(header: Image.Image, path: str) -> dict[str, Any]:
    """Return what is known of a decoded file beside its pixels.

    Raises:
        DataError: Pixels can be read, and facts cannot.
    """
    try:
        return {
            "oddities": ",".join(oddities(header, path)),
            "quantisation": quantisation(header),
            "exif": float(len(header.getexif())),
        }
    except MemoryError:
        raise
    except Exception as problem:  # a decoder's reader may fail in any way on bytes made for it
        raise DataError(f"cannot be described ({type(problem).__name__})") from None


def refuse(table: pd.DataFrame, settings: Settings) -> list[str | None]:
    """Say of every row why its file is not to be decoded at all; None where it may be."""
    longer = table[["width", "height"]].max(axis=1)
    return [
        f"{width} x {height} pixels, longer than modality.image.max_side ({settings.max_side})"
        if side > settings.max_side
        else None
        for side, width, height in zip(longer, table["width"], table["height"], strict=True)
    ]


def colours_of(pictures: NDArray[np.uint8], grey: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return half of what blue and red are above grey, of pictures (n, side, side, 3), coarsely."""
    above = pictures[..., [2, 0]] - grey[..., None]
    patch = SIDE // COLOUR_SIDE
    blocks = above.reshape(len(pictures), COLOUR_SIDE, patch, COLOUR_SIDE, patch, 2).mean(axis=(2, 4))
    found: NDArray[np.int8] = (blocks / 2).round().clip(-127, 127).astype(np.int8).transpose(0, 3, 1, 2)
    return found


def borders_of(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe the borders of pictures (samples, side, side, 3): 36 numbers each, 0 to 1.

    Along top, bottom, left and right: each channel's mean and standard deviation, and how far the mean
    is from that of the strip beside it, which gives even a faint frame away.
    """
    x = pictures.astype(np.float32) / 255
    across = x.swapaxes(1, 2)
    found = []
    for turned in (x, x[:, ::-1], across, across[:, ::-1]):
        strip, beside = turned[:, :BORDER], turned[:, BORDER : 2 * BORDER]
        mean = strip.mean(axis=(1, 2))
        found += [mean, strip.std(axis=(1, 2)), mean - beside.mean(axis=(1, 2))]
    return np.concatenate(found, axis=1).astype(np.float32)


def oddities(header: Image.Image, path: str) -> Iterator[str]:
    """Yield what is unusual about a file that can be read."""
    ending = PurePosixPath(path).suffix.lower()
    if ending not in ENDINGS.get(str(header.format), {ending}):
        yield "wrong extension"
    if getattr(header, "is_animated", False):  # n_frames would walk through all of them
        yield "animated"
    if header.mode == "CMYK":
        yield "CMYK"
    elif header.mode.startswith(("I", "F")):
        yield "16-bit"
    elif header.mode == "P" and header.format != "GIF":
        yield "palette"
    elif header.mode in ("RGBA", "LA", "PA") or "transparency" in header.info:
        yield "alpha"
    elif header.mode in ("L", "1"):
        yield "greyscale"
    if header.getexif().get(ORIENTATION, 1) != 1:
        yield "rotated by EXIF"


def quantisation(header: Image.Image) -> float:
    """Return the sum of a JPEG's first quantisation table, which tells its quality; 0 for others."""
    tables: dict[int, Sequence[int]] = getattr(header, "quantization", None) or {}
    return float(sum(next(iter(tables.values())))) if tables else 0.0
