"""The frozen-prefix cache: each view goes through the frozen part of the network once, ever."""

from typing import Annotated

from steps.artifacts.dataset import Dataset
from steps.artifacts.features import Features
from steps.artifacts.stats import Stats
from steps.core.system.config import BackboneConfig, CacheSettings, Unfreeze
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch


class CacheFeatures(CacheSettings):
    """See params.yaml."""

    backbone: Annotated[BackboneConfig, From("backbone")]
    unfreeze: Annotated[Unfreeze, From("fine_tune.unfreeze")]
    seed: Annotated[int, From("seed")]


def cache_features(dataset: Dataset, stats: Stats, cfg: CacheFeatures) -> Annotated[Features, "features"]:
    """Compute the pooled vector z, and h at the freeze boundary, of every sample and view."""
    from steps.core.features.cache import build_cache

    index, shards, meta = build_cache(
        dataset.table, dataset.labels, dataset.root, stats.look(), cfg, scratch(), dataset.labelling
    )
    return Features(index, shards, meta)


if __name__ == "__main__":
    main(cache_features)
