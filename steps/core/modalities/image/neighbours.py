"""Which pictures may be copies of which: the nearest neighbours of small, whitened prints.

Where all pictures are alike, as X-rays are, plain likeness says how a picture was taken and not which one it
is. So prints are described by what sets them apart: their principal axes, each divided by its spread over the
data set (whitening; the Mahalanobis distance). What is common to all has no weight, and a copy is near
whatever the others are like. The comparison's cost does not depend on the pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

COARSE = 16  # side of the prints that neighbours are found by
AXES = 64  # numbers that describe one
FITTED = 4096  # prints that the axes follow from, at most
FLOOR = 3e-4  # of the largest variance, added to each: axes that hold next to nothing get no weight; of few
# prints 1 / prints, since their axes are chance
BLOCK = 128  # rows of the table of similarities that are in memory at once
FLIPS: Sequence[tuple[int, ...]] = ((), (2,), (1,), (1, 2))  # of pictures (n, height, width)


def grey(prints: Tensor) -> Tensor:
    """Return uint8 prints as float32, 0 to 1."""
    return prints.float() / 255


def coarsened(pictures: Tensor) -> Tensor:
    """Return pictures (n, side, side) with COARSE pixels a side."""
    return F.adaptive_avg_pool2d(pictures[:, None], COARSE)[:, 0]


def standardised(x: Tensor) -> Tensor:
    """Return pictures (n, ...) as vectors of mean 0 and length 1; a flat picture becomes zeros."""
    flat = x.flatten(1)
    return F.normalize(flat - flat.mean(dim=1, keepdim=True), dim=1, eps=1e-4)


@dataclass(frozen=True)
class Neighbours:
    """The prints of some rows, to be asked for the nearest of each."""

    prints: Tensor
    """Grey, uint8 (samples, side, side)."""
    rows: Tensor
    """Which of them are compared, ascending."""
    mean: Tensor
    axes: Tensor
    """Of coarse prints: what is subtracted, and what they are multiplied with to be whitened."""
    keys: Tensor
    """Whitened prints of the rows, of length 1 (rows, AXES)."""

    @classmethod
    def of(cls, prints: NDArray[np.uint8], rows: NDArray[np.int64]) -> "Neighbours":
        """Whiten the prints (samples, side, side) of some rows."""
        known, chosen = torch.from_numpy(prints), torch.from_numpy(rows)
        drawn = chosen[:: -(-len(chosen) // FITTED)]
        mean, axes = whitening(standardised(coarsened(grey(known[drawn]))))
        blocks = [coarsened(grey(known[part])) for part in torch.split(chosen, BLOCK)]
        keys = torch.cat([whitened(block, mean, axes) for block in blocks])
        return cls(known, chosen, mean, axes, keys)

    def nearest(self, asked: Tensor, count: int) -> Tensor:
        """Return the nearest neighbours of places among the rows (asked, count, 3): row, other row, flip.

        Every flip of the asked one is compared, and `flip` is the number of the best one in FLIPS. The rows
        of a pair are in ascending order: a flip is its own inverse.
        """
        found = []
        for places in torch.split(asked, BLOCK):
            pictures = coarsened(grey(self.prints[self.rows[places]]))
            best, flip = torch.full((len(places), len(self.keys)), -2.0), torch.zeros(1, dtype=torch.uint8)
            flip = flip.expand(best.shape).clone()
            for number, axes in enumerate(FLIPS):
                scores = whitened(pictures.flip(axes), self.mean, self.axes) @ self.keys.T
                better = scores > best
                best = torch.where(better, scores, best)
                flip.masked_fill_(better, number)
            best[torch.arange(len(places)), places] = -2.0  # not with itself
            others = best.topk(count, dim=1).indices
            pairs = torch.stack([places[:, None].expand_as(others), others], dim=2).sort(dim=2).values
            found.append(torch.cat([self.rows[pairs], flip.gather(1, others)[..., None].long()], dim=2))
        return torch.cat(found)


def whitened(coarse: Tensor, mean: Tensor, axes: Tensor) -> Tensor:
    """Return coarse prints (n, COARSE, COARSE) along whitening axes, of length 1 (n, AXES)."""
    return F.normalize((standardised(coarse) - mean) @ axes, dim=1)


def whitening(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and whitening axes (features, AXES) of standardised prints (n, features)."""
    mean = flat.mean(dim=0)
    centred = (flat - mean).double()
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(flat))
    variances, axes = variances.flip(0)[:AXES].clamp(min=0), axes.flip(1)[:, :AXES]
    floor = max(FLOOR, 1 / len(flat))
    return mean, (axes / (variances + floor * variances[0] + 1e-12).sqrt()).float()
