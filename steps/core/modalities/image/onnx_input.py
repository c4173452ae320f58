"""What stands before the network in an exported file: resize, crop and normalisation inside the graph.

The resize is the one that the model was trained with: torchvision's antialiased resize of uint8 images works
in integers, as Pillow's does, and is repeated here step by step, so the network sees the same pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steps.core.modalities.image.pixels import Preprocessing, normalise, open_image

BITS = 15  # of a resize weight, its sign aside
HALF = 2.0**8  # the lower half of a weight's bits
MOST_PRECISION = 22
EDGE = 4  # positions at the border, where weights are largest


@dataclass(frozen=True)
class ImageInput:
    """Images uint8 (n, height, width, 3), upright RGB; see `steps.core.modalities.parts.InputGraph`."""

    preprocessing: Preprocessing
    name: str = "images"

    input_format = "uint8 images of n x height x width x 3"
    request = '{"image": [base64_text_of_an_image_file]}'

    @property
    def description(self) -> str:
        """What the model is given."""
        side = self.preprocessing.side
        return f"an RGB image, brought to {side} x {side} pixels"

    def module(self) -> nn.Module:
        """Return the graph before the network."""
        return ImageInputModule(self.preprocessing)

    def example(self) -> Tensor:
        """Return two black images that are not square."""
        resize = self.preprocessing.resize
        return torch.zeros(2, resize + 3, resize + 8, 3, dtype=torch.uint8)

    def dynamic_axes(self) -> dict[int, str]:
        """Return the axes that differ from image to image."""
        return {1: "height", 2: "width"}

    def encode(self, sample: Tensor) -> NDArray[np.uint8]:
        """Turn an image (3, height, width) into what the file takes (height, width, 3)."""
        turned: NDArray[np.uint8] = sample.permute(1, 2, 0).contiguous().numpy()
        return turned

    def size(self, data: bytes) -> list[int]:
        """Return width and height."""
        image = open_image(data)
        return [image.width, image.height]


class ImageInputModule(nn.Module):
    """Images uint8 (n, height, width, 3) to what enters the network (n, 3, side, side)."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """Do all that is done to an image between decoding and the network."""
        return normalise(self.view(images), self.preprocessing)

    def view(self, images: Tensor) -> Tensor:
        """Return the deterministic view (n, 3, side, side), whole numbers as float32."""
        height, width = (torch.scalar_tensor(n, dtype=torch.float64) for n in images.shape[1:3])
        short, to = torch.minimum(height, width), float(self.preprocessing.resize)
        rows, columns = (
            torch.full_like(n, to) if self.preprocessing.squash else torch.floor(n * to / short)
            for n in (height, width)
        )
        x = images.permute(0, 3, 1, 2).float()
        x = integer_pass(x, self.weights(width, columns, images.shape[2]))
        x = integer_pass(x.transpose(2, 3), self.weights(height, rows, images.shape[1]))
        return x.transpose(2, 3)

    def weights(self, size: Tensor, resized: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the whole-number weights (side, count) of one direction, and what they are multiples of."""
        side = self.preprocessing.side
        places = torch.round((resized - side) / 2) + torch.arange(side, dtype=torch.float64)
        border = torch.arange(EDGE, dtype=torch.float64)
        found = kernel(size, resized, torch.cat([border, places]), count, self.preprocessing.interpolation)
        unit = torch.pow(2.0, -precision(found.max()))
        scaled = found[EDGE:] / unit
        return torch.sign(scaled) * torch.floor(scaled.abs() + 0.5), unit


def kernel(size: Tensor, resized: Tensor, places: Tensor, count: int, interpolation: str) -> Tensor:
    """Return the share (places, count) that each input pixel has in each output pixel, in float64.

    ATen's `upsample_*_aa`: the filter is widened by the scale, cut at the border, and sums to 1.
    """
    scale = size / resized
    stretch = scale.clamp(min=1.0)
    half = (2.0 if interpolation == "bicubic" else 1.0) * stretch
    centre = (scale * (places + 0.5))[:, None]
    pixels = torch.arange(count, dtype=torch.float64)[None, :]
    first = torch.floor(centre - half + 0.5).clamp(min=0.0)
    end = torch.minimum(torch.floor(centre + half + 0.5), size)
    distance = ((pixels - centre + 0.5) * (1.0 / stretch)).abs()
    inside = (pixels >= first) & (pixels < end)
    weights = torch.where(inside, FILTERS[interpolation](distance), torch.zeros_like(distance))
    return weights / weights.sum(dim=1, keepdim=True)


def cubic(x: Tensor) -> Tensor:
    """Keys' cubic with a = -1/2, as Pillow has it."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = -0.5 * (((x - 5.0) * x + 8.0) * x - 4.0)
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, torch.zeros_like(x)))


def triangle(x: Tensor) -> Tensor:
    """The filter of the bilinear resize."""
    return (1.0 - x).clamp(min=0.0)


FILTERS: dict[str, Callable[[Tensor], Tensor]] = {"bicubic": cubic, "bilinear": triangle}


def precision(greatest: Tensor) -> Tensor:
    """Return how many binary places keep every weight within a signed 16-bit number.

    The least p with round(greatest * 2^(p + 1)) >= 2^15, and at most 22, as ATen counts it.
    """
    steps = torch.pow(2.0, torch.arange(1, MOST_PRECISION + 1, dtype=torch.float64))
    fits = torch.floor(greatest * steps + 0.5) < 2.0**BITS
    return fits.to(torch.float64).sum()


def integer_pass(x: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """Resize the last dimension of x, whole numbers 0..255, and round half up as the integer code does.

    Sums must be exact: rounded ones put a few pixels of a large picture on the other side of a half, and one
    such pixel moves a probability by up to 1e-3. A float32 holds whole numbers up to 2^24, and a sum of
    16-bit weights times 8-bit pixels is larger; so the weights' upper and lower 8 bits are summed apart,
    exactly for up to 512 input pixels under one output pixel, and joined in float64.
    """
    whole, unit = weights
    upper = torch.floor(whole / HALF + 0.5)
    lower = whole - HALF * upper
    sums = [(x @ part.float().T).double() for part in (upper, lower)]
    return torch.floor((sums[0] * HALF + sums[1]) * unit + 0.5).clamp(0.0, 255.0).float()
