"""What a linear head reads: which stages' outputs, and how each becomes a vector.

A stage's output is averaged over its places; its standard deviation over them may stand beside the mean.
Textures and small objects show in the deviation and in the middle stages, what the backbone was pretrained on
in the last (Evci et al. 2022, "Head2Toe", arXiv 2201.03529).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor

from steps.core.system.errors import BackboneError

Layout = Literal["channels_first", "channels_last", "masked"]
"""Of a stage's output: a map (n, c, h, w), a map (n, h, w, c) or tokens (n, t, c), or tokens of samples of
unequal length (n, t, c + 1), whose last channel is 1 where a sample has a token and 0 behind its end."""

EPSILON = 1e-8  # added to a variance, so that the slope of its root is finite


@dataclass(frozen=True)
class Readout:
    """Stages first ... keep - 1 are read; those from `keep` on are left out of the network."""

    first: int
    keep: int
    deviations: bool

    @classmethod
    def top(cls, stages: int) -> Self:
        """Return what the backbone's own head reads: the mean of the last stage."""
        return cls(stages - 1, stages, False)

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Self:
        """Return the readout of a model's or a cache's `meta`; without one, the top of `stages`."""
        return cls(**meta["readout"]) if "readout" in meta else cls.top(meta["stages"])

    def to_dict(self) -> dict[str, Any]:
        """Return what `of` reads."""
        return asdict(self)

    def within(self, stages: int) -> Self:
        """Return itself.

        Raises:
            BackboneError: It reads stages that a backbone of `stages` does not have.
        """
        if not 0 <= self.first < self.keep <= stages:
            raise BackboneError(
                f"choose_strategy.readout: found first {self.first} and keep {self.keep}, expected "
                f"0 <= first < keep <= {stages}, the backbone's stages"
            )
        return self

    def cut(self, keep: int) -> Self:
        """Return the readout of the first `keep` stages alone."""
        return type(self)(min(self.first, keep - 1), keep, self.deviations)

    def named(self) -> str:
        """Say which stages are read, counted from 1."""
        stages = (
            f"stages {self.first + 1} to {self.keep}" if self.keep > self.first + 1 else f"stage {self.keep}"
        )
        return f"{stages}, {'mean and deviation' if self.deviations else 'mean'}"


def pool(x: Tensor, layout: Layout) -> Tensor:
    """Average a stage's output over its places to (n, c); leave a vector as it is."""
    if layout == "masked" and x.ndim == 3:
        tokens, mask = x[..., :-1], x[..., -1:]
        return (tokens * mask).sum(dim=1) / mask.sum(dim=1)
    places = axes_of_places(x, layout)
    return x.mean(dim=places) if places else x


def deviation(x: Tensor, layout: Layout) -> Tensor | None:
    """Return the standard deviation over the places of a stage's output (n, c); None of a vector."""
    if layout == "masked" and x.ndim == 3:
        tokens, mask = x[..., :-1], x[..., -1:]
        centred = (tokens - pool(x, layout)[:, None]) * mask
        return (centred.square().sum(dim=1) / mask.sum(dim=1) + EPSILON).sqrt()
    places = axes_of_places(x, layout)
    if not places:
        return None
    centred = x - x.mean(dim=places, keepdim=True)
    return (centred.square().mean(dim=places) + EPSILON).sqrt()


def summarise(x: Tensor, layout: Layout, deviations: bool) -> list[Tensor]:
    """Return the mean of a stage's output and, if asked for and there are places, the deviation."""
    spread = deviation(x, layout) if deviations else None
    return [pool(x, layout)] if spread is None else [pool(x, layout), spread]


def join(parts: list[Tensor]) -> Tensor:
    """Put the vectors of the stages that are read beside each other (n, features)."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def axes_of_places(x: Tensor, layout: Layout) -> tuple[int, ...]:
    """Return the axes of a stage's output that are neither samples nor channels."""
    if x.ndim == 4:
        return (1, 2) if layout == "channels_last" else (2, 3)
    return (1,) if x.ndim == 3 else ()
