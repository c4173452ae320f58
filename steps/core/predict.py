"""From image bytes to logits, the way production does it: decode, plain view, the whole network."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from steps.core.extraction import batched
from steps.core.files import Folder, prefetched
from steps.core.images import Preprocessing, normalise, plain_view, read_image
from steps.core.network import Network

MICRO_BATCH = 16


@torch.inference_mode()
def predict_bytes(network: Network, look: Preprocessing, images: Iterable[bytes]) -> NDArray[np.float64]:
    """Return logits (n, classes).

    Raises:
        DataError: One of the images cannot be decoded.
    """
    network.eval()
    views = prefetched(lambda data: plain_view(read_image(data), look), images, 32)
    parts = [
        network(normalise(torch.stack(batch), look)).numpy().astype(np.float64)
        for batch in batched(views, MICRO_BATCH)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, network.head.out_features))


def predict_paths(
    network: Network, look: Preprocessing, folder: Folder, paths: Iterable[str]
) -> NDArray[np.float64]:
    """Return logits (n, classes) of files."""
    return predict_bytes(network, look, (folder.read(path) for path in paths))
