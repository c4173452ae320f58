"""From bytes to logits, the way production does it: decode, deterministic view, the whole network."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steps.core.backbones.network import Network
from steps.core.backbones.processes import on_device
from steps.core.data.files import Source, map_in_threads
from steps.core.features.extraction import in_batches
from steps.core.modalities.parts import Preprocessing

T = TypeVar("T")
MICRO_BATCH = 16


class Predictor(NamedTuple):
    """A network, and how it looks at a sample."""

    network: Network
    preprocessing: Preprocessing


def predict_bytes(
    network: Network, preprocessing: Preprocessing, samples: Iterable[bytes]
) -> NDArray[np.float64]:
    """Return logits (n, classes) of samples as they are stored.

    Raises:
        DataError: One of them cannot be decoded.
    """
    views = map_in_threads(lambda data: preprocessing.view(preprocessing.decode(data)), samples, 32)
    return predict_views(network, preprocessing, views)


@torch.inference_mode()
def predict_views(
    network: Network, preprocessing: Preprocessing, views: Iterable[Tensor]
) -> NDArray[np.float64]:
    """Return logits (n, classes) of deterministic views."""
    on_device(network)
    parts = [
        network(preprocessing.batch(batch, network.device)).cpu().numpy().astype(np.float64)
        for batch in in_batches(views, MICRO_BATCH)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, network.head.out_features))


@torch.inference_mode()
def predict_together(
    predictors: Mapping[str, Predictor],
    source: Source,
    paths: Iterable[str],
    per_sample: Callable[[Any, list[Tensor]], T],
    decoder: Preprocessing | None = None,
) -> tuple[dict[str, NDArray[np.float64]], list[T]]:
    """Decode every sample once for all models; return logits (n, classes) by model, and per-sample results.

    `per_sample` is given each decoded sample and the models' views of it, in the threads that decode; what it
    returns is kept in the order of the paths. Where there is no model, `decoder` decodes.
    """
    preprocessings = list(dict.fromkeys(predictor.preprocessing for predictor in predictors.values()))
    decode = (decoder or preprocessings[0]).decode

    def seen(path: str) -> tuple[list[Tensor], T]:
        sample = decode(source.read(path))
        views = [preprocessing.view(sample) for preprocessing in preprocessings]
        return views, per_sample(sample, views)

    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in predictors}
    per_sample_results = []
    for network, _ in predictors.values():
        on_device(network)
    for batch in in_batches(map_in_threads(seen, paths, 32), MICRO_BATCH):
        per_sample_results += [result for _, result in batch]
        for name, (network, preprocessing) in predictors.items():
            views = [views[preprocessings.index(preprocessing)] for views, _ in batch]
            logits = network(preprocessing.batch(views, network.device))
            parts[name].append(logits.cpu().numpy().astype(np.float64))
    return {name: np.concatenate(found) for name, found in parts.items()}, per_sample_results
