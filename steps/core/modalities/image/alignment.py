"""How one picture has to be moved, scaled and turned to lie upon another one.

An affine map is found by Gauss-Newton steps on the correlation of the two, from coarse to fine (Lucas and
Kanade 1981; Evangelidis and Psarakis 2008, "Parametric image alignment using enhanced correlation
coefficient maximization"). Every pair takes the same work, however alike the two are.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

DAMPING = 1e-3  # of the normal equations, relative
LONGEST = 0.1  # change of one number of the map in a step, at most; the picture is 2 wide


def identity(count: int) -> Tensor:
    """Return maps (count, 2, 3) that move nothing."""
    return torch.eye(2, 3).expand(count, 2, 3)


def moved(x: Tensor, maps: Tensor) -> Tensor:
    """Sample pictures (n, channels, side, side) where maps (n, 2, 3) send the places of the result."""
    grid = F.affine_grid(maps, [len(x), 1, *x.shape[2:]], align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def inverse(maps: Tensor) -> Tensor:
    """Return the maps (n, 2, 3) that undo maps."""
    back = torch.linalg.inv(maps[:, :, :2])
    return torch.cat([back, -back @ maps[:, :, 2:]], dim=2)


def with_gradients(x: Tensor) -> Tensor:
    """Return pictures (n, side, side) with their slopes to the right and down (n, 3, side, side).

    A slope is per unit of the maps' coordinates, in which a picture is 2 wide.
    """
    padded = F.pad(x[:, None], (1, 1, 1, 1), mode="replicate")
    right = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    return torch.cat([x[:, None], right * (x.shape[2] / 4), down * (x.shape[2] / 4)], dim=1)


def places(side: int) -> Tensor:
    """Return right, down and 1 of every pixel of a square picture (3, side * side)."""
    centres = (torch.arange(side) + 0.5) * 2 / side - 1
    return torch.stack([
        centres.repeat(side), centres.repeat_interleave(side), torch.ones(side * side)
    ])  # fmt: skip


def inside(maps: Tensor, side: int) -> Tensor:
    """Say of every pixel of a result whether maps send it into the picture (n, side * side), 1 or 0."""
    return ((maps @ places(side)).abs() <= 1).all(dim=1).float()


def align(a: Tensor, b: Tensor, maps: Tensor, steps: int) -> Tensor:
    """Improve maps (n, 2, 3) by which pictures a, sampled, lie upon b, both (n, side, side)."""
    sloped, target, where = with_gradients(a), b.flatten(1), places(a.shape[2])
    for _ in range(steps):
        sampled, weights = moved(sloped, maps).flatten(2), inside(maps, a.shape[2])
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
        seen, length = centred(sampled[:, 0], weights)
        wanted, _ = centred(target, weights)
        slopes = (sampled[:, 1:, None] * where).flatten(1, 2) / length[..., None]  # (n, 6, pixels)
        slopes = slopes - (weights[:, None] * slopes).sum(dim=2, keepdim=True)
        slopes = slopes - (weights[:, None] * slopes * seen[:, None]).sum(dim=2, keepdim=True) * seen[:, None]
        weighted = slopes * weights[:, None]
        normal = weighted @ slopes.transpose(1, 2)
        diagonal = normal.diagonal(dim1=1, dim2=2)
        normal = normal + torch.diag_embed(DAMPING * diagonal + 1e-6)
        step = torch.linalg.solve(normal, weighted @ (wanted - seen)[..., None])
        maps = maps + step.view(-1, 2, 3).clamp(-LONGEST, LONGEST)
    return maps


def centred(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return vectors (n, pixels) of weighted mean 0 and length 1, and how long they were (n, 1)."""
    x = x - (weights * x).sum(dim=1, keepdim=True)
    length = (weights * x * x).sum(dim=1, keepdim=True).sqrt().clamp(min=1e-4)
    return x / length, length
