"""What is known of a timm backbone's pretraining: its preprocessing, its licence."""

import math
from collections.abc import Sequence

import numpy as np
import timm

from steps.core.backbones.timm_adapter import similar
from steps.core.modalities.image.pixels import Preprocessing
from steps.core.system.errors import BackboneError

LEAST_AUTOMATIC_SIDE = 96  # three cells of the last stage's map


def pretrained_preprocessing(
    name: str, image_size: int | None, sides: Sequence[int] = (), most: int | None = None
) -> Preprocessing:
    """Return what the backbone was pretrained with: size, crop, interpolation, mean and std.

    At another `image_size` the ratio of resize to crop stays the same. With `most` the size follows from the
    images' shorter `sides`; see `automatic_side`.

    Raises:
        BackboneError: timm does not know the name, or how it was pretrained.
    """
    if not timm.is_model(name):
        raise BackboneError(f"backbone.name: timm knows no {name!r}; similar: {similar(name)}")
    pretrained = timm.get_pretrained_cfg(name)
    if pretrained is None:
        raise BackboneError(f"backbone.name: timm does not say how {name!r} was pretrained; take another")
    fields = pretrained.to_dict()
    side = image_size or fields["input_size"][-1]
    if most is not None:
        side = automatic_side(sides, side, most)
    return Preprocessing(
        side=side,
        resize=math.floor(side / fields["crop_pct"]),
        interpolation=fields["interpolation"],
        mean=tuple(fields["mean"]),
        std=tuple(fields["std"]),
        squash=fields["crop_mode"] == "squash",
    )


def automatic_side(sides: Sequence[int], pretrained: int, most: int) -> int:
    """Return the input's side for images whose shorter sides, in pixels, are `sides`.

    Twice the median, since small images gain from being enlarged to what the first stages expect, rounded to
    32 pixels, the stride of the last stage; at least 96 and at most `most` and the size of the pretraining.
    """
    wanted = 32 * round(2 * float(np.median(sides)) / 32) if len(sides) else most
    return min(max(wanted, LEAST_AUTOMATIC_SIDE), most, pretrained)


def licence(backbone: str) -> str:
    """Return the licence of the pretrained weights as timm states it."""
    known = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    return (
        str(known.license) if known and known.license else "not stated by timm; look at where they are from"
    )
