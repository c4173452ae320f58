"""What is left of the accuracy when pictures get worse (after Hendrycks and Dietterich 2019, ImageNet-C).

Each corruption has three strengths and is applied to the deterministic view, so its unit is the pixel that
the network sees.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from steps.core.backbones.network import Network
from steps.core.features.extraction import batched
from steps.core.modalities.image.pixels import Preprocessing, normalise, read_image
from steps.core.tasks import targets

MICRO_BATCH = 16
Corruption = Callable[[Tensor, float, torch.Generator], Tensor]


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


@torch.inference_mode()
def robustness(
    network: Network,
    look: Preprocessing,
    views: Sequence[Tensor],
    labels: Sequence[Any],
    seed: int,
    cut: Tensor | float = 0.0,
) -> list[dict[str, Any]]:
    """Return per corruption and strength (1 to 3) the accuracy on `views`, and what it lost.

    Of label sets it is the share of the right yes and no.

    Args:
        network: The model.
        look: How views become its input.
        views: uint8 (3, side, side).
        labels: Their class numbers, or indicators.
        seed: Of the noise.
        cut: What is taken from the logits, for a label's answer to turn at 0.
    """
    clean = right(network, look, views, labels, cut)
    rows = []
    for name, (change, strengths) in CORRUPTIONS.items():
        for step, strength in enumerate(strengths, start=1):
            generator = torch.Generator().manual_seed(seed)
            changed = [change(view, strength, generator) for view in views]
            found = right(network, look, changed, labels, cut)
            rows.append({"corruption": name, "strength": step, "accuracy": found, "drop": clean - found})
    return rows


def right(
    network: Network, look: Preprocessing, views: Sequence[Tensor], labels: Sequence[Any], cut: Tensor | float
) -> float:
    """Return the share of right answers."""
    logits = [
        network(normalise(torch.stack(part).to(network.device), look)).cpu()
        for part in batched(views, MICRO_BATCH)
    ]
    y = torch.tensor(labels)
    return float(targets.of(y).right(torch.cat(logits) - cut, y).mean())
