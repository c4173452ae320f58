"""Near copies: the same picture recompressed, resized, flipped, cropped, or made lighter.

Candidates are the nearest neighbours of a whitened grey print, in all flips. Each is aligned, first coarsely,
then finely where that is promising, and judged by the normalised cross-correlation of its detail: 1 is the
same picture up to brightness and contrast. Detail is what a blur takes away; without it two leaves on black
are one silhouette.

What correlation makes a copy depends on the pictures: two eights of a data set of digits agree better
than two photographs of one leaf. So a copy must also be far closer than its neighbours usually are.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from steps.core.modalities.image.alignment import align, identity, inverse, moved
from steps.core.modalities.image.neighbours import FLIPS, Neighbours, coarsened, grey, standardised

PAIRS = 256  # pairs that are aligned at once
NEIGHBOURS, MORE = 8, 32  # candidates of one image, and of one that has many copies
PROMISING = 0.8  # correlation of coarse prints after alignment that is worth a finer one
FINE = 24  # side of the pictures that the finer alignment sees
COARSE_STEPS, FINE_STEPS = 4, 3
BLUR = 5  # pixels of half a print


def near_copies(
    prints: NDArray[np.uint8], rows: NDArray[np.int64], threshold: float, near_copy_margin: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return pairs of rows (pairs, 2), first below second, and the correlation of each after alignment.

    Args:
        prints: Grey fingerprints (samples, side, side).
        rows: Which samples are compared, ascending.
        threshold: The least correlation of a near copy.
        near_copy_margin: How far from 1 it may be, as a share of what is usual between neighbours.
    """
    if len(rows) < 2:
        return np.zeros((0, 2), np.int64), np.zeros(0)
    index = Neighbours.of(prints, rows)
    usual = torch.zeros(len(prints))
    asked, count, general = torch.arange(len(rows)), min(NEIGHBOURS, len(rows) - 1), -1.0
    found = []
    while len(asked):
        near = index.nearest(asked, count)
        pairs, place = torch.unique(near.flatten(0, 1), dim=0, return_inverse=True)
        similarity = similarities(index.prints, pairs)
        found.append((pairs, similarity))
        of_row = similarity[place.view(len(asked), count)]  # (asked, count)
        general = general if general >= 0 else max(0.0, float(of_row.median()))
        copies = of_row >= least(torch.tensor(general), threshold, near_copy_margin)
        crowded = copies.sum(dim=1) * 2 > count
        own = of_row.median(dim=1).values.clamp(min=general)
        usual[index.rows[asked]] = own.where(~crowded, torch.tensor(general))
        wider = min(MORE, len(rows) - 1)
        asked, count = (asked[crowded], wider) if count < wider else (asked[:0], count)
    pairs, similarity = (torch.cat(parts) for parts in zip(*found, strict=True))
    closer = torch.maximum(usual[pairs[:, 0]], usual[pairs[:, 1]])
    return best_of_each(pairs, similarity, similarity >= least(closer, threshold, near_copy_margin))


def least(usual: Tensor, threshold: float, near_copy_margin: float) -> Tensor:
    """Return the correlation from which pairs are copies, where `usual` is that of neighbours."""
    return (1 - near_copy_margin * (1 - usual)).clamp(min=threshold)


def best_of_each(
    pairs: Tensor, similarity: Tensor, kept: Tensor
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs that are kept, each once, ascending, with its greatest similarity."""
    both, place = torch.unique(pairs[kept, :2], dim=0, return_inverse=True)
    best = torch.full((len(both),), -1.0).scatter_reduce(0, place, similarity[kept], "amax")
    return both.numpy(), best.double().numpy()


def similarities(prints: Tensor, pairs: Tensor) -> Tensor:
    """Return the correlation of detail of pairs (pairs, 3: row, other row, flip); 0 where none is likely."""
    found = [torch.zeros(0)]
    for part in torch.split(pairs, PAIRS):
        one, other = flipped(grey(prints[part[:, 0]]), part[:, 2]), grey(prints[part[:, 1]])
        small, target = coarsened(one), coarsened(other)
        maps = align(small, target, identity(len(part)), COARSE_STEPS)
        likeness = (standardised(moved(small[:, None], maps)) * standardised(target)).sum(dim=1)
        promising = (likeness >= PROMISING).nonzero()[:, 0]
        similarity = torch.zeros(len(part))
        similarity[promising] = detail_similarity(one[promising], other[promising], maps[promising])
        found.append(similarity)
    return torch.cat(found)


def flipped(pictures: Tensor, flips: Tensor) -> Tensor:
    """Return pictures (n, side, side), each flipped as its number in FLIPS says."""
    out = pictures.clone()
    for number, axes in enumerate(FLIPS):
        out[flips == number] = pictures[flips == number].flip(axes)
    return out


def detail_similarity(one: Tensor, other: Tensor, maps: Tensor) -> Tensor:
    """Return the correlation of detail (n,) of pictures (n, side, side), from a first alignment on."""
    if not len(one):
        return torch.zeros(0)
    one, other, maps = aligned(one, other, maps)
    return (detail(moved(one[:, None], maps)[:, 0]) * detail(other)).sum(dim=1)


def aligned(one: Tensor, other: Tensor, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return pictures (n, side, side) and the map by which the first, sampled, lies upon the other.

    They come in the order in which the first shows more: the other is a part of it, if either is.
    """
    is_part = shows_less(maps)[:, None, None]
    one, other = torch.where(is_part, other, one), torch.where(is_part, one, other)
    maps = torch.where(is_part, inverse(maps), maps)
    step = one.shape[2] // FINE
    return one, other, align(F.avg_pool2d(one, step), F.avg_pool2d(other, step), maps, FINE_STEPS)


def shows_less(maps: Tensor) -> Tensor:
    """Say of maps (n, 2, 3) whether the one that is sampled is a part of the other one (n,)."""
    area: Tensor = torch.linalg.det(maps[:, :, :2])
    return area > 1


def detail(picture: Tensor) -> Tensor:
    """Return what a blur takes away from prints (n, side, side) at half their size, standardised."""
    half = F.avg_pool2d(picture[:, None], 2)
    blurred = F.avg_pool2d(half, BLUR, stride=1, padding=BLUR // 2, count_include_pad=False)
    return standardised(half - blurred)
