"""Mean and standard deviation of pixels, exact: whole numbers are summed, nothing is rounded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from steps.core.data.files import Source, map_in_threads
from steps.core.modalities.image.pixels import Preprocessing, deterministic_view, read_image
from steps.core.system.progress import count

SMALLEST_STD = 1 / 255  # of a channel that is constant: dividing by it must stay harmless


@dataclass
class Moments:
    """Sums of 8-bit values and of their squares, per channel."""

    sums: list[int]
    squares: list[int]
    count: int
    """Pixels."""

    def mean(self) -> list[float]:
        """Return the means of the values scaled to 0..1."""
        return [total / self.count / 255 for total in self.sums]

    def std(self) -> list[float]:
        """Return the population standard deviations of the values scaled to 0..1."""
        n = self.count
        pairs = zip(self.squares, self.sums, strict=True)
        variances = ((n * square - total * total) / (n * n) for square, total in pairs)
        return [max(math.sqrt(variance) / 255, SMALLEST_STD) for variance in variances]


def stream_moments(source: Source, paths: Sequence[str], preprocessing: Preprocessing) -> Moments:
    """Add up the deterministic views of all `paths`; memory does not grow with their number."""

    def one(path: str) -> tuple[list[int], list[int]]:
        x = deterministic_view(read_image(source.read(path)), preprocessing).flatten(1).to(torch.int64)
        return x.sum(dim=1).tolist(), (x * x).sum(dim=1).tolist()

    moments = Moments([0, 0, 0], [0, 0, 0], preprocessing.side**2 * len(paths))
    parts = map_in_threads(one, paths, 32)
    for sums, squares in count(parts, "statistics", len(paths), "image"):
        moments.sums = [a + b for a, b in zip(moments.sums, sums, strict=True)]
        moments.squares = [a + b for a, b in zip(moments.squares, squares, strict=True)]
    return moments


def normalisations(pretrained: Preprocessing, moments: Moments) -> dict[str, Preprocessing]:
    """Return the three ways to normalise: as in pretraining, by the data set, each image by itself."""
    mean, std = tuple(moments.mean()), tuple(moments.std())
    return {
        "pretrained": pretrained,
        "dataset": replace(pretrained, mean=mean, std=std),
        "image": replace(pretrained, per_image=True),
    }
