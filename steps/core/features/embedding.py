"""The pooled vector of every image, by the pretrained backbone: what the audit and the trials look at."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import safe_open

from steps.core.backbones.network import Network
from steps.core.backbones.processes import placed
from steps.core.backbones.weights import find_weights
from steps.core.data.files import Folder
from steps.core.features.extraction import Extractor, Sample, Views
from steps.core.modalities.image.pixels import Preprocessing
from steps.core.system.config import Augmentation, BackboneConfig
from steps.core.system.storage import file_sha256

SHARD, MICRO_BATCH, OVERSAMPLING = 256, 8, 4.0
STILL = Augmentation(
    crop_area=[1.0, 1.0], crop_aspect=[1.0, 1.0], horizontal_flip=0.0, vertical_flip=0.0, rotation=0.0,
    translation=0.0, brightness=0.0, contrast=0.0, saturation=0.0,
)  # fmt: skip


def embed(
    folder: Folder, table: pd.DataFrame, backbone: BackboneConfig, look: Preprocessing, scratch: Path
) -> NDArray[np.float16]:
    """Return z (samples, features) of the deterministic view of every image, in the precision that is kept.

    The extractor is the one that fills the cache, and keeps its shards beside that: what has been
    embedded once is read the next time.
    """
    weights = find_weights(backbone.name, backbone.weights, scratch)
    network = placed(Network.build(backbone.name, 2, look.side, str(weights)))
    views = Views(look, STILL, 0, OVERSAMPLING)
    digest, kept = file_sha256(weights), scratch / "features"
    worker = Extractor(network, len(network.stages), views, "float16", MICRO_BATCH, digest, kept)
    samples = [Sample(p, s) for p, s in zip(table["path"], table["sha256"], strict=True)]
    z = np.zeros((len(samples), 0), np.float16)
    for first in range(0, len(samples), SHARD):
        shard = worker.shard(folder, samples[first : first + SHARD], 0)
        with safe_open(shard, framework="pt") as file:
            part = file.get_tensor("z")[:, 0].numpy()
        if not first:
            z = np.zeros((len(samples), part.shape[1]), np.float16)
        z[first : first + SHARD] = part
    return z
