"""Near copies: the same picture recompressed, resized, flipped, cropped, or made lighter.

Candidates are the nearest neighbours of a grey fingerprint (plain and mirrored) and of the embedding.
Each is aligned over flips and small crops, first coarsely, then finely where that is promising, and
judged by the normalised cross-correlation of its detail: 1 is the same picture up to brightness and
contrast. Detail is what a blur takes away; without it two leaves on black are one silhouette.

What correlation makes a copy depends on the pictures: two eights of a data set of digits agree better
than two photographs of one leaf. So a copy must also be far closer than neighbours usually are.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

BLOCK, KEYS = 256, 2048  # rows of the similarity matrix that are in memory, and are widened, at once
PAIRS = 128  # pairs that are aligned at once
NEIGHBOURS = 8  # candidates of one image by each measure
COARSE = 16  # side of the fingerprints that candidates are found, and first aligned, by
PROMISING = 0.75  # correlation before alignment, or cosine of embeddings, that is worth aligning
TOLERANCE = {"few": 6.0, "all": 3.0}  # how many times further from 1 than a fine alignment
SCALES, SHIFTS = (0.975, 0.95, 0.925, 0.9), (-1.0, -0.5, 0.0, 0.5, 1.0)
FLIPS: Sequence[tuple[int, ...]] = ((), (2,), (1,), (1, 2))  # of pictures (n, height, width)
BLUR = 5  # pixels of half a fingerprint
STEPS = (0.0125, 0.006, 0.003)  # of the fine alignment, of the picture's side


def near_copies(
    prints: NDArray[np.uint8],
    z: NDArray[np.float16],
    rows: NDArray[np.int64],
    threshold: float,
    near_copy_margin: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return pairs of rows (pairs, 2), first below second, and the correlation of each after alignment.

    Fingerprints and embeddings are read where they lie: a copy of them would be most of the memory.

    Args:
        prints: Grey fingerprints (samples, side, side).
        z: Embeddings (samples, features).
        rows: Which samples are compared, ascending.
        threshold: The least correlation of a near copy.
        near_copy_margin: How far from 1 it may be, as a share of what is usual between neighbours.
    """
    if len(rows) < 2:
        return np.zeros((0, 2), np.int64), np.zeros(0)
    fine = torch.from_numpy(prints)
    blocks = [F.adaptive_avg_pool2d(grey(part)[:, None], COARSE)[:, 0] for part in torch.split(fine, BLOCK)]
    coarse = torch.cat(blocks)
    pairs, median_similarity = candidates(coarse, torch.from_numpy(z), torch.from_numpy(rows))
    least = max(threshold, 1 - near_copy_margin * (1 - median_similarity))
    for effort, tolerance in TOLERANCE.items():
        found = [align(coarse[part[:, 0]], coarse[part[:, 1]], effort) for part in in_parts(pairs)]
        alignments = torch.cat([*found, torch.zeros(0, 6)])
        promising = alignments[:, 0] >= 1 - tolerance * (1 - least)
        pairs, alignments = pairs[promising], alignments[promising]
    parts = zip(in_parts(pairs), in_parts(alignments), strict=True)
    similarity = torch.cat([torch.zeros(0), *(refine(fine, part, start) for part, start in parts)])
    kept = similarity >= least
    return pairs[kept].numpy(), similarity[kept].double().numpy()


def grey(prints: Tensor) -> Tensor:
    """Return uint8 fingerprints as float32, 0 to 1."""
    return prints.float() / 255


def in_parts(rows: Tensor) -> Sequence[Tensor]:
    """Split rows into parts that are aligned at once; no rows are no part, for torch an empty one."""
    return torch.split(rows, PAIRS) if len(rows) else ()


def candidates(coarse: Tensor, z: Tensor, rows: Tensor) -> tuple[Tensor, float]:
    """Return pairs (pairs, 2) of rows that are worth a closer look, and the usual likeness of neighbours."""
    flat = standardised(coarse)

    def candidates_of_flip(axes: tuple[int, ...]) -> tuple[Tensor, float]:
        return nearest(lambda asked: standardised(coarse[asked].flip(axes)), flat, rows)

    (plain, median_similarity), *others = map(candidates_of_flip, FLIPS)
    found = [plain, *(pairs for pairs, _ in others)]
    if z.shape[1]:
        found.append(nearest(lambda asked: F.normalize(z[asked].float(), dim=1), z, rows)[0])
    return torch.unique(torch.cat(found), dim=0), median_similarity


def mirrored(x: Tensor) -> list[Tensor]:
    """Return images (n, height, width) as they are and flipped each way."""
    return [x.flip(axes) for axes in FLIPS]


def standardised(x: Tensor) -> Tensor:
    """Return images (n, ...) as vectors of mean 0 and length 1; a flat image becomes zeros."""
    flat = x.flatten(1)
    return F.normalize(flat - flat.mean(dim=1, keepdim=True), dim=1, eps=1e-4)


def nearest(queries: Callable[[Tensor], Tensor], keys: Tensor, rows: Tensor) -> tuple[Tensor, float]:
    """Return the promising pairs among each row's nearest neighbours, and the last ones' median.

    Args:
        queries: Gives the vectors of some rows, of length 1 (asked, features).
        keys: Vectors (samples, features) of any length, whose rows are compared with the queries.
        rows: Those that are asked about, and are answers; ascending.
    """
    pairs, last = [], []
    count = min(NEIGHBOURS, len(rows) - 1)
    # Buffers that are used again: fresh ones of this size would leave the heap full of holes.
    table, wide = torch.empty(BLOCK, len(keys)), torch.empty(KEYS, keys.shape[1])
    lengths = torch.cat([torch.linalg.vector_norm(part.float(), dim=1) for part in torch.split(keys, KEYS)])
    lengths.clamp_(min=1e-12)
    left_out = torch.ones(len(keys), dtype=torch.bool).index_fill_(0, rows, value=False)
    for asked in torch.split(rows, BLOCK):
        scores, asking = table[: len(asked)], queries(asked)
        for first in range(0, len(keys), KEYS):
            part = keys[first : first + KEYS]
            known = wide[: len(part)].copy_(part)
            torch.mm(asking, known.T, out=scores[:, first : first + KEYS])
        scores /= lengths
        scores[:, left_out] = -2.0
        scores[torch.arange(len(asked)), asked] = -2.0  # not with itself
        best = scores.topk(count, dim=1)
        last.append(best.values[:, -1])
        row, rank = (best.values >= PROMISING).nonzero(as_tuple=True)
        pairs.append(torch.stack([asked[row], best.indices[row, rank]], dim=1).sort(dim=1).values)
    return torch.cat(pairs), float(torch.cat(last).median())


@cache
def windows(effort: str) -> Tensor:
    """Return the crops that alignment tries: scale, shift right, shift down (crops, 3), the whole first."""
    scales, shifts = (SCALES, SHIFTS) if effort == "all" else (SCALES[1:2], SHIFTS[::2])
    crops = [(s, right * (1 - s), down * (1 - s)) for s in scales for down in shifts for right in shifts]
    return torch.tensor([(1.0, 0.0, 0.0), *crops])


@cache
def resampling(effort: str) -> Tensor:
    """Return the linear map (COARSE^2, crops x COARSE^2) from a coarse picture to all its crops."""
    count = COARSE * COARSE
    basis = torch.eye(count).view(count, COARSE, COARSE)
    every = [crop(basis, window.expand(count, 3)).flatten(1) for window in windows(effort)]
    return torch.cat(every, dim=1)


def crop(x: Tensor, window: Tensor) -> Tensor:
    """Cut windows (n, 3) out of images (n, side, side) and bring them back to their size."""
    scale, right, down = window.T
    none = torch.zeros_like(scale)
    theta = torch.stack([scale, none, right, none, scale, down], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [len(x), 1, *x.shape[1:]], align_corners=False)
    return F.grid_sample(x[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def align(a: Tensor, b: Tensor, effort: str) -> Tensor:
    """Align coarse pictures (n, side, side), either of which may be a crop of the other, flipped.

    Returns:
        Correlation, which one is cropped (0 or 1), the flip's number, and the crop (n, 6).
    """
    best = torch.full((len(a), 6), -1.0)
    for second, (whole, cropped) in enumerate(((b, a), (a, b))):
        bank = (cropped.flatten(1) @ resampling(effort)).view(len(a), len(windows(effort)), COARSE * COARSE)
        bank = F.normalize(bank - bank.mean(dim=2, keepdim=True), dim=2, eps=1e-4)
        for flip, view in enumerate(mirrored(whole)):
            score, which = torch.einsum("nkp,np->nk", bank, standardised(view)).max(dim=1)
            facts = torch.tensor([[second, flip]]).expand(len(a), 2)
            row = torch.cat([score[:, None], facts, windows(effort)[which]], dim=1)
            best = torch.where(score[:, None] > best[:, :1], row, best)
    return best


def refine(fine: Tensor, pairs: Tensor, start: Tensor) -> Tensor:
    """Return the correlation (n,) of the detail of fingerprints after a finer search around an alignment."""
    first_is_cropped = start[:, 1] == 0
    cropped = grey(fine[torch.where(first_is_cropped, pairs[:, 0], pairs[:, 1])])
    whole = grey(fine[torch.where(first_is_cropped, pairs[:, 1], pairs[:, 0])])
    views = torch.stack(mirrored(whole))[start[:, 2].long(), torch.arange(len(pairs))]
    window, target = start[:, 3:].clone(), standardised(views)

    def similarity(tried: Tensor) -> Tensor:
        return (standardised(crop(cropped, tried)) * target).sum(dim=1)

    best = similarity(window)
    offsets = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 3)
    for step in STEPS:
        centre = window.clone()
        for offset in offsets:
            tried = centre + step * offset
            score = similarity(tried)
            window = torch.where((score > best)[:, None], tried, window)
            best = torch.maximum(best, score)
    return (detail(crop(cropped, window)) * detail(views)).sum(dim=1)


def detail(picture: Tensor) -> Tensor:
    """Return what a blur takes away from fingerprints (n, side, side) at half their size, standardised."""
    half = F.avg_pool2d(picture[:, None], 2)
    blurred = F.avg_pool2d(half, BLUR, stride=1, padding=BLUR // 2, count_include_pad=False)
    return standardised(half - blurred)
