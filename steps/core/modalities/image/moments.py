"""Mean and standard deviation of pixels, exact: whole numbers are summed, nothing is rounded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import timm
import torch
from tqdm import tqdm

from steps.core.data.files import Folder, prefetched
from steps.core.modalities.image.pixels import Preprocessing, plain_view, read_image
from steps.core.system.errors import BackboneError

SMALLEST_STD = 1 / 255  # of a channel that is constant: dividing by it must stay harmless


@dataclass
class Moments:
    """Sums of 8-bit values and of their squares, per channel."""

    sums: list[int]
    squares: list[int]
    pixels: int

    def mean(self) -> list[float]:
        """Return the means of the values scaled to 0..1."""
        return [total / self.pixels / 255 for total in self.sums]

    def std(self) -> list[float]:
        """Return the population standard deviations of the values scaled to 0..1."""
        n = self.pixels
        pairs = zip(self.squares, self.sums, strict=True)
        variances = ((n * square - total * total) / (n * n) for square, total in pairs)
        return [max(math.sqrt(variance) / 255, SMALLEST_STD) for variance in variances]


def stream_moments(folder: Folder, paths: Sequence[str], look: Preprocessing) -> Moments:
    """Add up the deterministic views of all `paths`; memory does not grow with their number."""

    def one(path: str) -> tuple[list[int], list[int]]:
        x = plain_view(read_image(folder.read(path)), look).flatten(1).to(torch.int64)
        return x.sum(dim=1).tolist(), (x * x).sum(dim=1).tolist()

    moments = Moments([0, 0, 0], [0, 0, 0], look.side**2 * len(paths))
    parts = prefetched(one, paths, 32)
    for sums, squares in tqdm(parts, "statistics", len(paths), unit="image", disable=None):
        moments.sums = [a + b for a, b in zip(moments.sums, sums, strict=True)]
        moments.squares = [a + b for a, b in zip(moments.squares, squares, strict=True)]
    return moments


def pretrained_preprocessing(name: str, image_size: int | None) -> Preprocessing:
    """Return what the backbone was pretrained with: size, crop, interpolation, mean and std.

    At another `image_size` the ratio of resize to crop stays the same.

    Raises:
        BackboneError: timm does not know the name, or how it was pretrained.
    """
    pretrained = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if pretrained is None:
        raise BackboneError(f"backbone.name: timm knows no {name!r}, or not how it was pretrained")
    fields = pretrained.to_dict()
    side = image_size or fields["input_size"][-1]
    return Preprocessing(
        side=side,
        resize=math.floor(side / fields["crop_pct"]),
        interpolation=fields["interpolation"],
        mean=tuple(fields["mean"]),
        std=tuple(fields["std"]),
        squash=fields["crop_mode"] == "squash",
    )
