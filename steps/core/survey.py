"""One look at every file: whether it decodes, what is odd about it, a fingerprint, its border.

Each file is read and decoded once, in threads; per image a few kilobytes are kept, whatever its size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from steps.core.errors import DataError
from steps.core.files import Folder, prefetched
from steps.core.images import open_image, read_image

SIDE = 48  # pixels of a fingerprint's side
BORDER = 0.06  # of a side: the strip that the border canary sees
ENDINGS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "PNG": {".png"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "WEBP": {".webp"},
    "TIFF": {".tif", ".tiff"},
    "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
}
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Survey:
    """What was seen, a row per row of the manifest; rows with an error are zero elsewhere."""

    facts: pd.DataFrame
    """error, oddities (words, joined by a comma), level, spread, quantisation, exif."""
    prints: NDArray[np.uint8]
    """Grey fingerprints (samples, SIDE, SIDE)."""
    borders: NDArray[np.float32]
    """Mean and standard deviation of each channel along each side (samples, 24), 0 to 1."""

    def only(self, rows: NDArray[np.int64]) -> "Survey":
        """Return some of the rows."""
        facts = self.facts.iloc[rows].reset_index(drop=True)
        return Survey(facts, self.prints[rows], self.borders[rows])


def survey(folder: Folder, table: pd.DataFrame) -> Survey:
    """Look at every file of a manifest."""
    known = [error if isinstance(error, str) else None for error in table["error"]]
    jobs = list(zip(table["path"], known, strict=True))
    seen = prefetched(lambda job: look_at(folder, *job), jobs, 32)
    prints = np.zeros((len(jobs), SIDE, SIDE), np.uint8)
    borders = np.zeros((len(jobs), 24), np.float32)
    facts = []
    for row, (fact, image) in enumerate(tqdm(seen, "decoding", len(jobs), unit="file", disable=None)):
        facts.append(fact)
        if image is not None:
            prints[row], borders[row] = image
    return Survey(pd.DataFrame(facts, columns=list(NOTHING)), prints, borders)


NOTHING: dict[str, Any] = {
    "error": None, "oddities": "", "level": 0.0, "spread": 0.0, "quantisation": 0.0, "exif": 0.0,
}  # fmt: skip


def look_at(
    folder: Folder, path: str, error: str | None
) -> tuple[dict[str, Any], tuple[NDArray[np.uint8], NDArray[np.float32]] | None]:
    """Return the facts of one file, and the fingerprint and border of its picture."""
    if error is not None:
        return {**NOTHING, "error": error}, None
    try:
        data = folder.read(path)
        header = open_image(data)
        image = read_image(data)
    except DataError as problem:
        return {**NOTHING, "error": str(problem)}, None
    grey = greyscale(image)
    facts = {
        "oddities": ",".join(oddities(header, path)),
        "level": float(grey.mean()),
        "spread": float(grey.std(correction=0)),
        "quantisation": quantisation(header),
        "exif": float(len(header.getexif())),
    }
    return {**NOTHING, **facts}, (fingerprint(grey), border_of(image))


def greyscale(image: Tensor) -> Tensor:
    """Return luminance (height, width), 0 to 1; a large image is thinned out first."""
    step = max(1, min(image.shape[1:]) // (4 * SIDE))
    weights = torch.tensor([0.299, 0.587, 0.114]) / 255
    return torch.einsum("chw,c->hw", image[:, ::step, ::step].float(), weights)


def fingerprint(grey: Tensor) -> NDArray[np.uint8]:
    """Average a grey image (height, width) to SIDE x SIDE."""
    pooled = F.adaptive_avg_pool2d(grey[None], SIDE)[0]
    small: NDArray[np.uint8] = (pooled * 255).round().to(torch.uint8).numpy()
    return small


def border_of(image: Tensor) -> NDArray[np.float32]:
    """Return mean and standard deviation of each channel along top, bottom, left and right."""
    height, width = (max(1, round(BORDER * n)) for n in image.shape[1:])
    strips = (image[:, :height], image[:, -height:], image[:, :, :width], image[:, :, -width:])
    flat = [strip.flatten(1).float() / 255 for strip in strips]
    moments = [part for strip in flat for part in (strip.mean(dim=1), strip.std(dim=1, correction=0))]
    found: NDArray[np.float32] = torch.cat(moments).numpy()
    return found


def oddities(header: Image.Image, path: str) -> Iterator[str]:
    """Yield what is unusual about a file that can be read."""
    ending = PurePosixPath(path).suffix.lower()
    if ending not in ENDINGS.get(str(header.format), {ending}):
        yield "wrong extension"
    if getattr(header, "n_frames", 1) > 1:
        yield "animated"
    if header.mode == "CMYK":
        yield "CMYK"
    elif header.mode.startswith(("I", "F")):
        yield "16-bit"
    elif header.mode == "P":
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
