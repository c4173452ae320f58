"""Images as a report shows them: small, and with what the network looked at."""

import io

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from steps.core.data.uris import png_uri
from steps.core.modalities.image.pixels import Preprocessing, deterministic_view, read_image


def thumbnail(data: bytes, side: int = 120) -> str:
    """Return an image file as a small picture; tiny ones are enlarged."""
    return thumbnail_of(F.to_pil_image(read_image(data)), side)


def thumbnail_of(image: Image.Image, side: int) -> str:
    """Return an image as a small picture."""
    scale = side / max(image.size)
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    buffer = io.BytesIO()
    small.save(buffer, format="png")
    return png_uri(buffer.getvalue())


def overlay(data: bytes, preprocessing: Preprocessing, heat: Tensor, side: int = 120) -> str:
    """Return the view of an image file with a map (view side, view side), 0 to 1, in red upon it."""
    view = deterministic_view(read_image(data), preprocessing).float()
    red = torch.tensor([220.0, 40.0, 40.0]).view(3, 1, 1)
    mixed = view * (1 - 0.6 * heat) + red * 0.6 * heat
    return thumbnail_of(F.to_pil_image(mixed.round().to(torch.uint8)), side)
