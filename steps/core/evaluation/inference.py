"""From image bytes to logits, the way production does it: decode, plain view, the whole network."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from steps.core.backbones.network import Network
from steps.core.backbones.processes import placed
from steps.core.data.files import Folder, prefetched
from steps.core.features.extraction import batched
from steps.core.modalities.image.pixels import Preprocessing, normalise, plain_view, read_image

T = TypeVar("T")
MICRO_BATCH = 16
GREY = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
LAPLACIAN = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).view(1, 1, 3, 3)


class Looker(NamedTuple):
    """A network, and how it looks at a picture."""

    network: Network
    look: Preprocessing


def predict_bytes(network: Network, look: Preprocessing, images: Iterable[bytes]) -> NDArray[np.float64]:
    """Return logits (n, classes) of image files.

    Raises:
        DataError: One of the images cannot be decoded.
    """
    views = prefetched(lambda data: plain_view(read_image(data), look), images, 32)
    return predict_views(network, look, views)


@torch.inference_mode()
def predict_views(network: Network, look: Preprocessing, views: Iterable[Tensor]) -> NDArray[np.float64]:
    """Return logits (n, classes) of views, uint8 (3, side, side)."""
    placed(network)
    parts = [
        network(normalise(torch.stack(batch).to(network.device), look)).cpu().numpy().astype(np.float64)
        for batch in batched(views, MICRO_BATCH)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, network.head.out_features))


@torch.inference_mode()
def predict_together(
    lookers: Mapping[str, Looker],
    folder: Folder,
    paths: Iterable[str],
    beside: Callable[[Tensor, list[Tensor]], T],
) -> tuple[dict[str, NDArray[np.float64]], list[T]]:
    """Decode every file once for all models; return logits (n, classes) by model, and what `beside` said.

    `beside` is shown each image, uint8 (3, height, width), and the models' views of it, in the threads that
    decode; what it returns is kept in the order of the files.
    """
    looks = list(dict.fromkeys(looker.look for looker in lookers.values()))

    def seen(path: str) -> tuple[list[Tensor], T]:
        image = read_image(folder.read(path))
        views = [plain_view(image, look) for look in looks]
        return views, beside(image, views)

    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in lookers}
    said = []
    for network, _ in lookers.values():
        placed(network)
    for batch in batched(prefetched(seen, paths, 32), MICRO_BATCH):
        said += [word for _, word in batch]
        for name, (network, look) in lookers.items():
            views = torch.stack([views[looks.index(look)] for views, _ in batch]).to(network.device)
            parts[name].append(network(normalise(views, look)).cpu().numpy().astype(np.float64))
    return {name: np.concatenate(found) for name, found in parts.items()}, said


def describe(image: Tensor, views: list[Tensor]) -> dict[str, float]:
    """Return facts of a picture (3, height, width), the first two of the first view of it.

    `brightness`, the mean luminance, 0 to 1; `sharpness`, the variance of the luminance's Laplacian; `size`,
    the picture's pixels.
    """
    grey = (views[0] / 255 * GREY).sum(dim=0)
    edges = F.conv2d(grey[None, None], LAPLACIAN)
    return {
        "brightness": round(grey.mean().item(), 6),
        "sharpness": round(edges.var().item(), 6),
        "size": float(image.shape[1] * image.shape[2]),
    }
