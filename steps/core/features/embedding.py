"""The pooled vector of every sample, by the pretrained backbone: what the audit and the trials look at."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import safe_open

from steps.core.backbones.processes import on_device
from steps.core.backbones.settings import BackboneConfig
from steps.core.data.files import Source
from steps.core.features.extraction import Extractor, Sample
from steps.core.modalities.contract import Modality
from steps.core.modalities.networks import build_network
from steps.core.modalities.parts import Preprocessing, Views
from steps.core.modalities.registry import modality
from steps.core.modalities.settings import ModalitySettings
from steps.core.system.storage import file_sha256

SHARD, MICRO_BATCH = 128, 8  # as cache_features has them: then it finds what the audit has embedded


@dataclass(frozen=True)
class Encoder:
    """A pretrained backbone, and how samples enter it."""

    modality: Modality
    name: str
    weights: Path
    preprocessing: Preprocessing

    def describe(self) -> dict[str, Any]:
        """Return what two encoders have to share for their vectors to be compared."""
        return {
            "backbone": self.name,
            "weights_sha256": file_sha256(self.weights),
            "preprocessing": self.preprocessing.to_dict(),
        }

    def with_preprocessing(self, preprocessing: Preprocessing) -> "Encoder":
        """Return the same backbone with another preprocessing."""
        return replace(self, preprocessing=preprocessing)


def encoder_of(
    kind: Modality, name: str, weights: Path, settings: ModalitySettings, table: pd.DataFrame
) -> Encoder:
    """Return a backbone with the preprocessing that it was pretrained with, for the samples of a table.

    Raises:
        BackboneError: The backbone is not known.
    """
    return Encoder(kind, name, weights, kind.pretrained(name, settings.of(kind.name), table, weights))


def pretrained_encoder(
    name: str, backbone: BackboneConfig, settings: ModalitySettings, table: pd.DataFrame, scratch: Path
) -> Encoder:
    """Return the backbone of params.yaml as it was pretrained, for samples of the modality `name`.

    Raises:
        BackboneError: The backbone is not known, or its weights cannot be had.
    """
    kind = modality(name)
    own = backbone.of(kind.default_backbone)
    weights = kind.find_weights(own, backbone.weights, scratch)
    return encoder_of(kind, own, weights, settings, table)


def embed(
    source: Source, table: pd.DataFrame, encoder: Encoder, scratch: Path, views: Views | None = None
) -> NDArray[np.float16]:
    """Return z (samples, features) of the deterministic view of every sample, in the precision that is kept.

    Of other `views` it is their view 0.

    The extractor is the one that fills the cache, and keeps its shards beside that: what has been
    embedded once is read the next time.
    """
    network = on_device(
        build_network(encoder.modality, encoder.name, encoder.preprocessing, 2, encoder.weights)
    )
    views = views or encoder.modality.deterministic_views(encoder.preprocessing)
    digest, kept = file_sha256(encoder.weights), scratch / "features"
    worker = Extractor(network, None, views, "float16", MICRO_BATCH, digest, kept)
    top = f"stage{len(network.stages) - 1}"
    samples = [Sample(p, s) for p, s in zip(table["path"], table["sha256"], strict=True)]
    z = np.zeros((len(samples), 0), np.float16)
    for first in range(0, len(samples), SHARD):
        shard = worker.shard(source, samples[first : first + SHARD], 0)
        with safe_open(shard, framework="pt") as file:
            part = file.get_tensor(top)[:, 0].numpy()
        if not first:
            z = np.zeros((len(samples), part.shape[1]), np.float16)
        z[first : first + SHARD] = part
    return z
