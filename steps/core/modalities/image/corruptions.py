"""Ways in which an image gets worse (after Hendrycks and Dietterich 2019, ImageNet-C).

Each has three strengths and is applied to the deterministic view, so its unit is the pixel that the network
sees.
"""

import io
from collections.abc import Mapping

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from steps.core.modalities.contract import Corruption
from steps.core.modalities.image.pixels import read_image


def noise(view: Tensor, spread: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise; `spread` in levels of 255."""
    drawn = torch.randn(view.shape, generator=generator) * spread
    return (view.float() + drawn).round().clamp(0, 255).to(torch.uint8)


def blur(view: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Blur with a Gaussian of `sigma` pixels."""
    size = 2 * int(3 * sigma + 0.5) + 1
    blurred: Tensor = F.gaussian_blur(view, [min(size, view.shape[-1] // 2 * 2 - 1)] * 2, [sigma, sigma])
    return blurred


def jpeg(view: Tensor, quality: float, generator: torch.Generator) -> Tensor:
    """Store as a JPEG and read again."""
    stored = io.BytesIO()
    F.to_pil_image(view).save(stored, "JPEG", quality=int(quality))
    return read_image(stored.getvalue())


def brightness(view: Tensor, factor: float, generator: torch.Generator) -> Tensor:
    """Darken."""
    changed: Tensor = F.adjust_brightness(view, factor)
    return changed


def contrast(view: Tensor, factor: float, generator: torch.Generator) -> Tensor:
    """Take contrast away."""
    changed: Tensor = F.adjust_contrast(view, factor)
    return changed


CORRUPTIONS: Mapping[str, tuple[Corruption, tuple[float, float, float]]] = {
    "noise": (noise, (8.0, 18.0, 38.0)),
    "blur": (blur, (0.7, 1.5, 3.0)),
    "jpeg": (jpeg, (50.0, 25.0, 10.0)),
    "brightness": (brightness, (0.7, 0.5, 0.3)),
    "contrast": (contrast, (0.7, 0.45, 0.25)),
}
