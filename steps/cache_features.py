"""The frozen-prefix cache: each view goes through the frozen part of the network once, ever."""

from typing import Annotated

from steps.artifacts.backbone import Backbone
from steps.artifacts.dataset import Dataset
from steps.artifacts.features import Features
from steps.artifacts.stats import Stats
from steps.core.backbones.settings import Unfreeze
from steps.core.features.settings import CacheSettings
from steps.core.modalities.settings import ModalitySettings
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch


class CacheFeatures(CacheSettings):
    """See params.yaml."""

    modality: Annotated[ModalitySettings, From("modality")]
    unfreeze: Annotated[Unfreeze, From("fine_tune.unfreeze")]
    seed: Annotated[int, From("seed")]


def cache_features(
    dataset: Dataset, backbone: Backbone, stats: Stats, cfg: CacheFeatures
) -> Annotated[Features, "features"]:
    """Compute the pooled vector z, and h at the freeze boundary, of every sample and view."""
    from steps.core.features.cache import build_cache
    from steps.core.features.embedding import encoder_of
    from steps.core.modalities.registry import modality

    kind = modality(dataset.modality)
    encoder = encoder_of(kind, backbone.meta["name"], backbone.weights, cfg.modality, dataset.table)
    encoder = encoder.with_preprocessing(kind.preprocessing(stats.preprocessing))
    about = (dataset.table, dataset.labels, dataset.root)
    settings = kind.decided(cfg.modality.of(kind.name), stats.kept_symmetries)
    index, shards, meta = build_cache(*about, encoder, settings, cfg, scratch(), dataset.labelling)
    return Features(index, shards, meta)


if __name__ == "__main__":
    main(cache_features)
