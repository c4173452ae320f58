"""What is known of a timm backbone's pretraining: its preprocessing, its licence."""

import math

import timm

from steps.core.backbones.timm_adapter import similar
from steps.core.modalities.image.pixels import Preprocessing
from steps.core.system.errors import BackboneError


def pretrained_preprocessing(name: str, image_size: int | None) -> Preprocessing:
    """Return what the backbone was pretrained with: size, crop, interpolation, mean and std.

    At another `image_size` the ratio of resize to crop stays the same.

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
    return Preprocessing(
        side=side,
        resize=math.floor(side / fields["crop_pct"]),
        interpolation=fields["interpolation"],
        mean=tuple(fields["mean"]),
        std=tuple(fields["std"]),
        squash=fields["crop_mode"] == "squash",
    )


def licence(backbone: str) -> str:
    """Return the licence of the pretrained weights as timm states it."""
    known = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    return (
        str(known.license) if known and known.license else "not stated by timm; look at where they are from"
    )
