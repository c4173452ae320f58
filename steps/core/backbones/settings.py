"""Settings of the pretrained network; apart from the networks, whose libraries are slow to import."""

from typing import Annotated, Literal

from pydantic import Field

from steps.core.system.config import Config

Unfreeze = Annotated[int, Field(ge=0)] | Literal["all"]
"""How many of the last stages train: 0, 1, 2, ... or all."""

Precision = Literal["auto", "bfloat16", "float32"]
"""Of products in a training; auto: bfloat16 where that is faster."""


class BackboneConfig(Config):
    """Which pretrained network, and where its weights come from."""

    name: str
    """Of images any timm model name."""
    weights: str
    """`packaged`, `hub`, or the path of a .safetensors file."""
