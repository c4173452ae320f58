"""The base of everything that is set from outside, and the settings that core code shares."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Unfreeze = Annotated[int, Field(ge=0)] | Literal["all"]
"""How many of the last stages train: 0, 1, 2, ... or all."""


Precision = Literal["auto", "bfloat16", "float32"]
"""Of products in a training; auto: bfloat16 where that is faster."""


class Watched:
    """Marks a field that names a file beside params.yaml: what is in it counts, not its name alone."""


WatchedFile = Annotated[str, Watched()]


class Config(BaseModel):
    """Base of every config: frozen, no unknown keys, no silent conversion, no defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class BackboneConfig(Config):
    """Which pretrained network, and where its weights come from."""

    name: str
    """Any timm model name."""
    weights: str
    """`packaged`, `hub`, or the path of a .safetensors file."""
    image_size: Annotated[int, Field(ge=32, le=1024)] | None
    """Side of the square input in pixels; null takes the size it was pretrained at."""


class Augmentation(Config):
    """The ranges a training view is drawn from; zeros and ones mean no change."""

    crop_area: Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    """Least and greatest part of the image's area that a crop keeps."""
    crop_aspect: Annotated[list[Positive], Field(min_length=2, max_length=2)]
    """Least and greatest ratio of a crop's width to its height, relative to the image's own."""
    horizontal_flip: Fraction
    vertical_flip: Fraction
    rotation: Annotated[float, Field(ge=0, le=180)]
    """Greatest angle, in degrees, to either side."""
    translation: Fraction
    """Greatest shift, as a fraction of the side."""
    brightness: Fraction
    contrast: Fraction
    saturation: Fraction


class CacheSettings(Config):
    """What the frozen-prefix cache is built by."""

    views: Annotated[int, Field(ge=0)]
    """Seeded views per training image, beside the deterministic one."""
    augmentation: Augmentation
    oversampling: Annotated[float, Field(ge=1)] | None
    """Pixels that a JPEG is decoded to, at least, per pixel of the smallest crop's side; null: all."""
    dtype: Literal["float16", "float32"]
    shard_samples: Count
    micro_batch: Count
    backbone: BackboneConfig
    unfreeze: Unfreeze
    seed: int


class Recipe(Config):
    """How a model is trained; one loop reads it in every phase that trains."""

    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    """Samples of one step; BatchNorm has no variance of one."""
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["constant", "cosine", "one_cycle"]
    warmup: Fraction
    """Part of all optimiser steps in which the learning rate rises."""
    clip_norm: Positive | None
    """Greatest norm of the gradient of all trained parameters together; null: no clipping."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    mixup: Annotated[float, Field(ge=0)]
    """Alpha of MixUp's Beta distribution; 0 is off."""
    cutmix: Annotated[float, Field(ge=0)]
    """Alpha of CutMix's Beta distribution; 0 is off."""
    patience: Count
    """Epochs without a better validation loss after which training stops."""
    precision: Precision
    """Of the trained stages' products, see `backbones.precision`; a head alone trains in float32."""


class HeadRecipe(Recipe):
    """How a linear head is trained on features that stay as they are."""

    head_lr: Positive

    @field_validator("cutmix")
    @classmethod
    def nothing_to_cut(cls, cutmix: float) -> float:
        """Refuse CutMix, which would do nothing here."""
        if cutmix:
            raise ValueError(
                "0: a head is trained on pooled vectors, which have no rows and columns to cut; "
                "mixup mixes them as a whole"
            )
        return cutmix


class Cut(Config):
    """A student that is the teacher's first stages, with the teacher's weights."""

    keep_stages: Count


class Named(Config):
    """A student of an architecture of its own, with its own pretrained weights."""

    name: str
    """Any timm model name."""
    weights: str
    """`packaged`, `hub`, or the path of a .safetensors file."""


class StudentRecipe(Recipe):
    """Which student is chosen and how it is trained."""

    candidates: Annotated[list[Cut | Named], Field(min_length=1)]
    """What is benchmarked; the best that fits the budget is trained."""
    cpu_ms: Positive | None
    """Greatest median latency of one image on this machine; null: no limit."""
    megabytes: Positive | None
    """Greatest size of the float32 ONNX file; null: no limit."""
    timings: Count
    """Answers of every candidate whose latency is taken, by turns."""
    head_lr: Positive
    ratio: Annotated[float, Field(gt=0, le=1)]
    """Learning rate of a stage relative to that of the next one."""
    temperature: Positive
    """Softens both distributions (Hinton et al. 2015)."""
    alpha: Fraction
    """Share of the teacher's word in the loss; the rest are the labels."""
