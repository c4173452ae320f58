"""The pooled output of every stage of the backbone: each sample goes through it once, ever."""

from typing import Annotated

from steps.artifacts.backbone import Backbone
from steps.artifacts.dataset import Dataset
from steps.artifacts.features import Features
from steps.artifacts.stats import Stats
from steps.core.features.settings import CacheSettings
from steps.core.modalities.settings import ModalitySettings
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch


class CacheFeatures(CacheSettings):
    """See params.yaml."""

    modality: Annotated[ModalitySettings, From("modality")]


def cache_features(
    dataset: Dataset, backbone: Backbone, stats: Stats, cfg: CacheFeatures
) -> Annotated[Features, "features"]:
    """Compute mean and deviation of what every stage puts out, of the deterministic view of every sample."""
    from steps.core.features.cache import Data, build_features
    from steps.core.features.embedding import encoder_of
    from steps.core.modalities.registry import modality

    kind = modality(dataset.modality)
    encoder = encoder_of(kind, backbone.meta["name"], backbone.weights, cfg.modality, dataset.table)
    encoder = encoder.with_preprocessing(kind.preprocessing(stats.preprocessing))
    about = Data(dataset.table, dataset.labels, dataset.root, dataset.labelling)
    return Features(*build_features(about, encoder, cfg, scratch()))


if __name__ == "__main__":
    main(cache_features)
