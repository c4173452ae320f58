"""Copies and near copies: the same bytes, or the same picture recompressed, resized, flipped, cropped.

Candidates are the nearest neighbours of a grey fingerprint (plain and mirrored) and of the embedding.
Each candidate is then aligned, over small crops and shifts, and judged by the normalised
cross-correlation of the two fingerprints: 1 is the same picture up to brightness and contrast.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn import functional as F

BLOCK = 1024  # rows of the similarity matrix that are in memory at once
NEIGHBOURS = 8  # candidates of one image by each measure
COARSE = 16  # side of the fingerprints that candidates are found by
PROMISING = 0.75  # correlation before alignment, or cosine of embeddings, that is worth aligning
SCALES, SHIFTS = (1.0, 0.975, 0.95, 0.925, 0.9), (-1.0, -0.5, 0.0, 0.5, 1.0)


def exact_copies(digests: "pd.Series[str]") -> NDArray[np.int64]:
    """Return a group number per row; rows with equal content share it."""
    numbers: NDArray[np.int64] = digests.factorize()[0].astype(np.int64)
    return numbers


def near_copies(
    prints: NDArray[np.uint8], z: NDArray[np.float32], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return pairs of rows (pairs, 2), first below second, and the correlation of each after alignment.

    Args:
        prints: Grey fingerprints (samples, side, side).
        z: Embeddings (samples, features).
        threshold: The least correlation of a near copy.
    """
    grey = torch.from_numpy(prints.astype(np.float32) / 255)
    pairs = sorted(candidates(grey, torch.from_numpy(np.ascontiguousarray(z))))
    if not pairs:
        return np.zeros((0, 2), np.int64), np.zeros(0)
    rows = torch.tensor(pairs)
    found = torch.cat([aligned(grey[part[:, 0]], grey[part[:, 1]]) for part in torch.split(rows, 64)])
    kept = found >= threshold
    return rows[kept].numpy(), found[kept].double().numpy()


def candidates(grey: Tensor, z: Tensor) -> set[tuple[int, int]]:
    """Return pairs that are worth a closer look."""
    coarse = F.adaptive_avg_pool2d(grey[:, None], COARSE)[:, 0]
    flat = standardised(coarse)
    pairs = set()
    for view in mirrored(coarse):
        pairs |= set(nearest(standardised(view), flat))
    if z.shape[1]:
        unit = F.normalize(z.float(), dim=1)
        pairs |= set(nearest(unit, unit))
    return pairs


def mirrored(x: Tensor) -> list[Tensor]:
    """Return images (n, height, width) as they are and flipped each way."""
    return [x, x.flip(2), x.flip(1), x.flip((1, 2))]


def standardised(x: Tensor) -> Tensor:
    """Return images (n, ...) as vectors of mean 0 and length 1; a flat image becomes zeros."""
    flat = x.flatten(1)
    return F.normalize(flat - flat.mean(dim=1, keepdim=True), dim=1, eps=1e-4)


def nearest(queries: Tensor, keys: Tensor) -> Iterator[tuple[int, int]]:
    """Yield the promising pairs among each row's nearest neighbours."""
    for first in range(0, len(queries), BLOCK):
        scores = queries[first : first + BLOCK] @ keys.T
        rows = torch.arange(len(scores))
        scores[rows, rows + first] = -1.0  # not with itself
        best = scores.topk(min(NEIGHBOURS, len(keys)), dim=1)
        for row, column in (best.values >= PROMISING).nonzero().tolist():
            one, other = first + row, int(best.indices[row, column])
            yield min(one, other), max(one, other)


def aligned(a: Tensor, b: Tensor) -> Tensor:
    """Return the best correlation (n,) of pairs of images (n, side, side) over flips and crops."""
    whole = torch.stack([correlation(a, view) for view in mirrored(b)])  # (4, n)
    views = torch.stack(mirrored(b))
    best = whole.max(dim=0).values
    # Flips are told apart without alignment; the two best are aligned.
    for rank in whole.topk(2, dim=0).indices:
        turned = views[rank, torch.arange(len(b))]
        for fixed, moving in ((a, turned), (turned, a)):
            for crop in crops(moving):
                best = torch.maximum(best, correlation(fixed, crop))
    return best


def crops(x: Tensor) -> Iterator[Tensor]:
    """Yield crops of images (n, side, side), brought back to their size."""
    for scale in SCALES[1:]:
        for down in SHIFTS:
            for right in SHIFTS:
                theta = torch.tensor(
                    [[scale, 0.0, right * (1 - scale)], [0.0, scale, down * (1 - scale)]]
                ).expand(len(x), 2, 3)
                grid = F.affine_grid(theta, [len(x), 1, *x.shape[1:]], align_corners=False)
                yield F.grid_sample(x[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the normalised cross-correlation (n,) of images (n, side, side)."""
    return (standardised(a) * standardised(b)).sum(dim=1)


def components(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a group number per row: rows that are linked, directly or by others, share it."""
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    numbers: NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    return numbers
