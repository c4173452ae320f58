"""From bytes to logits, the way production does it: decode, deterministic view, the whole network."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steps.core.backbones.network import Network
from steps.core.backbones.processes import placed
from steps.core.data.files import Source, prefetched
from steps.core.features.extraction import batched
from steps.core.modalities.parts import Preprocessing

T = TypeVar("T")
MICRO_BATCH = 16


class Looker(NamedTuple):
    """A network, and how it looks at a sample."""

    network: Network
    look: Preprocessing


def predict_bytes(network: Network, look: Preprocessing, samples: Iterable[bytes]) -> NDArray[np.float64]:
    """Return logits (n, classes) of samples as they are stored.

    Raises:
        DataError: One of them cannot be decoded.
    """
    views = prefetched(lambda data: look.view(look.decode(data)), samples, 32)
    return predict_views(network, look, views)


@torch.inference_mode()
def predict_views(network: Network, look: Preprocessing, views: Iterable[Tensor]) -> NDArray[np.float64]:
    """Return logits (n, classes) of deterministic views."""
    placed(network)
    parts = [
        network(look.batch(batch, network.device)).cpu().numpy().astype(np.float64)
        for batch in batched(views, MICRO_BATCH)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, network.head.out_features))


@torch.inference_mode()
def predict_together(
    lookers: Mapping[str, Looker],
    source: Source,
    paths: Iterable[str],
    beside: Callable[[Any, list[Tensor]], T],
    decoder: Preprocessing | None = None,
) -> tuple[dict[str, NDArray[np.float64]], list[T]]:
    """Decode every sample once for all models; return logits (n, classes) by model, and what `beside` said.

    `beside` is given each decoded sample and the models' views of it, in the threads that decode; what it
    returns is kept in the order of the paths. Where there is no model, `decoder` decodes.
    """
    looks = list(dict.fromkeys(looker.look for looker in lookers.values()))
    decode = (decoder or looks[0]).decode

    def seen(path: str) -> tuple[list[Tensor], T]:
        sample = decode(source.read(path))
        views = [look.view(sample) for look in looks]
        return views, beside(sample, views)

    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in lookers}
    said = []
    for network, _ in lookers.values():
        placed(network)
    for batch in batched(prefetched(seen, paths, 32), MICRO_BATCH):
        said += [word for _, word in batch]
        for name, (network, look) in lookers.items():
            views = [views[looks.index(look)] for views, _ in batch]
            logits = network(look.batch(views, network.device))
            parts[name].append(logits.cpu().numpy().astype(np.float64))
    return {name: np.concatenate(found) for name, found in parts.items()}, said
