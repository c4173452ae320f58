"""Alike in grey, and yet not the same picture: another colour, or something written or changed in one place.

A shirt in red and in blue, and a form that two people have filled in, are near copies of each other. If their
labels differ, the difference may be what the labels are about. So it is looked for before one of them is
called wrong: in the colours, and in the place where two aligned pictures differ most, against the rest of
them. Saving again, resizing and cropping change a picture everywhere.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from steps.core.modalities.image.alignment import align, centred, identity, inside, moved, with_gradients
from steps.core.modalities.image.near_copies import COARSE_STEPS, PAIRS, aligned, detail, flipped, shows_less
from steps.core.modalities.image.neighbours import FLIPS, coarsened, grey

PATCH = 6  # pixels of a print's side: the place that is compared with the rest
STANDS_OUT = 20.0  # times the usual difference, squared, of the picture's patches
VISIBLE = 0.25  # of the picture's contrast: a patch's difference that is more than one of compression
COLOURED = 6.0  # of 255: root mean square difference of the colours, at equal contrast


def variants(
    prints: NDArray[np.uint8], colours: NDArray[np.int8], pairs: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Say of near copies whether they differ in colour or in one place (pairs,).

    Args:
        prints: Grey fingerprints (samples, side, side).
        colours: Half the differences of blue and of red from grey (samples, 2, small side, small side).
        pairs: Rows (pairs, 2).
    """
    every, shades = torch.from_numpy(prints), torch.from_numpy(colours)
    found = [np.zeros(0, np.bool_)]
    for part in torch.split(torch.from_numpy(pairs), PAIRS) if len(pairs) else ():
        flips = best_flips(grey(every[part[:, 0]]), grey(every[part[:, 1]]))
        one, other = flipped(grey(every[part[:, 0]]), flips), grey(every[part[:, 1]])
        painted = [flipped(2.0 * shades[part[:, 0], channel], flips) for channel in (0, 1)]
        theirs = 2.0 * shades[part[:, 1]]
        maps = align(coarsened(one), coarsened(other), identity(len(part)), COARSE_STEPS)
        is_part = shows_less(maps)[:, None, None, None]
        own = torch.stack(painted, dim=1)
        own, theirs = torch.where(is_part, theirs, own), torch.where(is_part, own, theirs)
        one, other, maps = aligned(one, other, maps)
        differ = changed_in_one_place(one, other, maps) | differs_in_colour(one, other, own, theirs, maps)
        found.append(differ.numpy())
    return np.concatenate(found)


def best_flips(one: Tensor, other: Tensor) -> Tensor:
    """Return the numbers in FLIPS by which pictures (n, side, side) are most like the other ones (n,)."""
    scores = []
    for axes in FLIPS:
        seen = one.flip(axes)
        maps = align(coarsened(seen), coarsened(other), identity(len(one)), COARSE_STEPS)
        scores.append((detail(moved(seen[:, None], maps)[:, 0]) * detail(other)).sum(dim=1))
    return torch.stack(scores).argmax(dim=0)


def changed_in_one_place(one: Tensor, other: Tensor, maps: Tensor) -> Tensor:
    """Say of aligned pictures (n, side, side) whether one patch differs far more than the others do (n,).

    Where there is more to see, any misfit shows more: a patch's difference is divided by its contours.
    """
    side = one.shape[2]
    weights = inside(maps, side)
    share = weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
    seen, wanted = (centred(x.flatten(1), share)[0] for x in (moved(one[:, None], maps), other))
    squared = ((seen - wanted).square() * weights).view(-1, 1, side, side)
    patches = F.avg_pool2d(squared, PATCH, stride=PATCH // 2).flatten(1)
    contours = with_gradients(other)[:, 1:].square().sum(dim=1, keepdim=True)
    contours = F.avg_pool2d(contours, PATCH, stride=PATCH // 2).flatten(1)
    contours = contours / contours.mean(dim=1, keepdim=True).clamp(min=1e-12)
    usual = patches.median(dim=1, keepdim=True).values * (0.5 + 0.5 * contours)
    return ((patches > STANDS_OUT * usual) & (patches > VISIBLE**2)).any(dim=1)


def differs_in_colour(one: Tensor, other: Tensor, own: Tensor, theirs: Tensor, maps: Tensor) -> Tensor:
    """Say of aligned pictures (n, side, side) with colours (n, 2, small, small) whether these differ (n,).

    A picture with less contrast has paler colours too: they are compared at equal contrast.
    """
    contrast = other.flatten(1).std(dim=1) / one.flatten(1).std(dim=1).clamp(min=1e-4)
    weights = inside(maps, own.shape[2])[:, None]
    shift = (contrast[:, None, None, None] * moved(own, maps) - theirs).flatten(2)
    squared = (shift.square() * weights).sum(dim=2).sum(dim=1)
    return (squared / weights.sum(dim=2)[:, 0].clamp(min=1)).sqrt() > COLOURED
