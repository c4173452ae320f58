"""Settings of images; apart from what uses them, whose libraries are slow to import."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from steps.core.system.config import Config, Count, Fraction, Positive

Decoder = Literal["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "HEIF"]
"""Formats whose decoders are given a file, by Pillow's names; `formats.DECODERS` has those that are here."""
Format = Literal[Decoder, "MPO"]
"""What a file of these decoders may turn out to be; MPO is a JPEG that holds more than one picture."""


class Ranges(Config):
    """What a training view is drawn from, beside flips; zeros and ones mean no change."""

    crop_area: Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    """Least and greatest area of a crop, as a part of the largest square in the image."""
    crop_aspect: Annotated[list[Positive], Field(min_length=2, max_length=2)]
    """Least and greatest ratio of a crop's width to its height. Where the backbone's own preprocessing
    changes proportions ("squash"), area and aspect are relative to the whole image."""
    rotation: Annotated[float, Field(ge=0, le=180)]
    """Greatest angle, in degrees, to either side."""
    translation: Fraction
    """Greatest shift, as a fraction of the side."""
    brightness: Fraction
    contrast: Fraction
    saturation: Fraction


class Augmentation(Ranges):
    """The ranges a training view is drawn from, flips with their probability."""

    horizontal_flip: Fraction
    vertical_flip: Fraction


class AugmentationSection(Ranges):
    """The ranges as params.yaml has them; a flip that is `auto` is decided by `measure_stats`."""

    horizontal_flip: Fraction | Literal["auto"]
    """Probability; `auto`: one half where a probe knows the mirror image as well, else 0."""
    vertical_flip: Fraction | Literal["auto"]


class Settings(Config):
    """How images are checked and looked at."""

    size: Annotated[int, Field(ge=32, le=1024)] | Literal["auto"] | None
    """Side of the square input in pixels; null takes the size the backbone was pretrained at, `auto` what
    `steps.core.modalities.image.pretrained.automatic_side` makes of the images' sizes."""
    max_auto_size: Annotated[int, Field(ge=32, le=1024)]
    """Pixels that `auto` takes at most."""
    formats: list[Format]
    """File formats that are allowed, by Pillow's names."""
    min_side: Count
    max_side: Count
    """Pixels of the longer side; a file that claims more is left out before it is decoded."""
    min_spread: Fraction
    """Standard deviation of an image's luminance, of 1, below which there is nothing to see."""
    augmentation: AugmentationSection
    oversampling: Annotated[float, Field(ge=1)] | None
    """Pixels that a JPEG is decoded to, at least, per pixel of the smallest crop's side; null: all."""

    @model_validator(mode="after")
    def ordered(self) -> "Settings":
        """Refuse limits that no image can keep."""
        if self.min_side > self.max_side:
            raise ValueError("min_side at most max_side")
        return self
