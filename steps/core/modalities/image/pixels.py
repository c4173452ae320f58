"""Pixels: reading an image, checking it, and its views.

A view is uint8 of shape (3, side, side). View 0 of a sample is deterministic; view k > 0 is drawn
from a seed that depends on the run's seed, the sample's content and k alone.
"""

import hashlib
import io
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from steps.core.modalities.image.formats import DECODERS, unread_format
from steps.core.modalities.image.settings import Augmentation
from steps.core.modalities.image.tiff import misread
from steps.core.system.errors import DataError

MAX_PIXELS = 100_000_000  # a header may claim any size: refuse before memory is spent
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # also of what lies inside of a file, as in an icon
MAX_SCANS = 100  # of a progressive JPEG, each of which is worked through in full; cameras write about 10
MAX_ASPECT = 16  # longer side to shorter; a resize of the shorter side makes the longer one grow with it
LARGE_PIXELS = 16_000_000  # from which images are decoded one at a time: threads times 100 megapixels is much
ONE_LARGE = threading.Lock()
SCAN_MARKER = b"\xff\xda"
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input; `mean` and `std` are of pixels scaled to 0..1."""

    side: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    squash: bool = False
    """Whether an image is made square by changing its proportions instead of by a crop."""
    per_image: bool = False
    """Whether every view is normalised by its own mean and std instead."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain json types."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def example(self) -> Tensor:
        """Return a black view: uint8 (3, side, side)."""
        return torch.zeros(3, self.side, self.side, dtype=torch.uint8)

    def decode(self, data: bytes) -> Tensor:
        """Decode an image file to upright RGB: uint8 (3, height, width); see `read_image`."""
        return read_image(data)

    def view(self, sample: Tensor) -> Tensor:
        """Return the deterministic view: uint8 (3, side, side)."""
        return deterministic_view(sample, self)

    def batch(self, views: Sequence[Tensor], device: torch.device) -> Tensor:
        """Normalise views, uint8 (3, side, side), to float32 (n, 3, side, side), channels last."""
        return normalise(torch.stack(list(views)).to(device), self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Undo `to_dict`."""
        return cls(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})


def open_image(data: bytes) -> Image.Image:
    """Read an image's header only; no decoder but those of `Decoder` looks at the bytes.

    Raises:
        DataError: The bytes are no image of these formats, or claim too many pixels or scans.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=DECODERS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"too many pixels, more than {MAX_PIXELS}: {error}") from None
    except MemoryError:  # of which the image is innocent
        raise
    except Exception as error:  # a decoder's reader may fail in any way on bytes made for it
        # Pillow's own message holds a memory address: the reason must be the same every time.
        known = unread_format(data) or f"read are {', '.join(DECODERS)}"
        raise DataError(f"not a readable image ({type(error).__name__}); {known}") from None
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS}")
    if image.format in ("JPEG", "MPO") and (scans := data.count(SCAN_MARKER)) > MAX_SCANS:
        raise DataError(f"a JPEG of {scans} scans, more than {MAX_SCANS}")
    if image.format == "TIFF" and (reason := misread(image)):
        raise DataError(reason)
    return image


def read_image(data: bytes, least_side: int | None = None) -> Tensor:
    """Decode to upright RGB: uint8 (3, height, width); see `decode`."""
    image = open_image(data)
    with one_at_a_time(image):
        pixels: Tensor = F.pil_to_tensor(decode(image, least_side))
    return pixels


def one_at_a_time(image: Image.Image) -> AbstractContextManager[object]:
    """Return what a large image waits for before it is decoded; nothing for others."""
    return ONE_LARGE if image.width * image.height > LARGE_PIXELS else nullcontext()


def decode(image: Image.Image, least_side: int | None = None) -> Image.Image:
    """Decode what `open_image` has opened to an upright RGB image.

    A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, many times faster, as long as its shorter
    side keeps `least_side` pixels; None decodes everything. Of an image that is more than MAX_ASPECT times
    as long as wide, the middle is returned: no view could show the rest at a size that fits into memory.

    Raises:
        DataError: The image is truncated or otherwise cannot be decoded.
    """
    try:
        if least_side:
            image.draft(None, (least_side, least_side))  # does nothing to other formats
        image.load()
        turned = image.getexif().get(ORIENTATION, 1) != 1
        upright = crop_to_aspect(ImageOps.exif_transpose(image) if turned else image)
        if upright.mode in ("I", "F"):
            raise DataError(f"pixels of mode {upright.mode} have no known range: save 8 or 16 bits a channel")
        if upright.mode.startswith("I;16"):
            upright = scale_to_8_bits(upright)
        if "transparency" in upright.info:
            upright = upright.convert("RGBA")
        return upright if upright.mode == "RGB" else upright.convert("RGB")
    except (DataError, MemoryError):
        raise
    except Exception as error:  # as in `open_image`
        raise DataError(f"cannot be decoded: {error}") from None


def crop_to_aspect(image: Image.Image) -> Image.Image:
    """Return the image, or its middle where one side is more than MAX_ASPECT times the other."""
    width, height = (min(side, MAX_ASPECT * min(image.size)) for side in image.size)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Map 16-bit grey to 8 bits by dropping the low byte; Pillow would clip at 255 instead."""
    return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")


def deterministic_view(image: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return the deterministic view: shorter side to `resize`, then the centre."""
    mode = InterpolationMode(preprocessing.interpolation)
    size = [preprocessing.resize, preprocessing.resize] if preprocessing.squash else [preprocessing.resize]
    resized = F.resize(image, size, interpolation=mode, antialias=True)
    view: Tensor = F.center_crop(resized, [preprocessing.side, preprocessing.side])
    return view


def view_seed(seed: int, sha256: str, view: int) -> int:
    """Derive a view's seed from the run's seed, the content of the file and the view's number."""
    key = hashlib.sha256(f"{seed}/{sha256}/{view}".encode()).digest()
    return int.from_bytes(key[:8], "big") >> 1


def seeded_view(image: Tensor, preprocessing: Preprocessing, ranges: Augmentation, seed: int) -> Tensor:
    """Return a random view that depends on the image and the seed alone."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    top, left, height, width = draw_crop(image.shape[-2:], ranges, draw, preprocessing.squash)
    mode = InterpolationMode(preprocessing.interpolation)
    size = [preprocessing.side, preprocessing.side]
    x: Tensor = F.resized_crop(image, top, left, height, width, size, interpolation=mode, antialias=True)
    angle = draw(-ranges.rotation, ranges.rotation)
    shift = [draw(-1, 1) * ranges.translation * preprocessing.side for _ in range(2)]
    if angle or any(shift):
        x = move(x, angle, shift)
    if draw(0, 1) < ranges.horizontal_flip:
        x = F.horizontal_flip(x)
    if draw(0, 1) < ranges.vertical_flip:
        x = F.vertical_flip(x)
    for change, amount in (
        (F.adjust_brightness, ranges.brightness),
        (F.adjust_contrast, ranges.contrast),
        (F.adjust_saturation, ranges.saturation),
    ):
        factor = draw(1 - amount, 1 + amount)
        x = change(x, factor) if amount else x
    return x


def move(x: Tensor, angle: float, shift: Sequence[float]) -> Tensor:
    """Turn a view (3, side, side) by degrees and shift it by pixels; its mirror image fills the corners.

    A black corner would be an edge that no image has: on textures it outweighs what tells the classes apart.
    """
    side = x.shape[-1]
    turned = math.radians(angle)
    beyond = side / 2 * (abs(math.cos(turned)) + abs(math.sin(turned)) - 1) + max(map(abs, shift))
    border = min(math.ceil(max(beyond, 0.0)) + 1, side - 1)
    wide = F.pad(x, [border] * 4, padding_mode="reflect") if border else x
    moved = F.affine(wide, angle, list(shift), 1.0, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR)
    found: Tensor = F.center_crop(moved, [side, side])
    return found


def draw_crop(
    shape: Sequence[int], ranges: Augmentation, draw: Callable[[float, float], float], squash: bool
) -> tuple[int, int, int, int]:
    """Draw top, left, height and width of a crop (Szegedy et al. 2014, "Going deeper").

    Area and aspect are relative to the largest square in the image, so that a training view changes
    proportions no more than the deterministic view, a square centre, does; with `squash`, where that one
    changes them too, they are relative to the whole image. Unlike the usual code there is no retry: a side
    that is too long is cut to the image's.
    """
    height, width = shape
    base_height, base_width = shape if squash else [min(shape)] * 2
    area = draw(*ranges.crop_area)
    aspect = math.exp(draw(*(math.log(ratio) for ratio in ranges.crop_aspect)))
    crop_height = max(1, min(height, round(base_height * math.sqrt(area / aspect))))
    crop_width = max(1, min(width, round(base_width * math.sqrt(area * aspect))))
    top = round(draw(0, height - crop_height))
    left = round(draw(0, width - crop_width))
    return top, left, crop_height, crop_width


def normalise(views: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Turn uint8 views (n, 3, side, side) into a network's input, float32, channels last."""
    x = views.float()
    if preprocessing.per_image:
        std, mean = torch.std_mean(x, dim=(2, 3), correction=0, keepdim=True)
        std = std.clamp(min=1.0)  # of 255: a view without contrast becomes zeros
    else:
        mean = torch.tensor(preprocessing.mean, device=views.device).mul(255).view(-1, 1, 1)
        std = torch.tensor(preprocessing.std, device=views.device).mul(255).view(-1, 1, 1)
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)
