"""The frozen-prefix cache: each view goes through the stages that stay frozen once, ever."""

from typing import Annotated

from pydantic import Field

from steps.artifacts.dataset import Dataset
from steps.artifacts.features import Features
from steps.artifacts.models import Classifier
from steps.artifacts.plan import Plan
from steps.artifacts.stats import Stats
from steps.core.features.settings import CacheSettings
from steps.core.modalities.settings import ModalitySettings
from steps.core.system.config import Config
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch


class CachePrefix(Config):
    """See params.yaml."""

    views: Annotated[int, Field(ge=0)]
    """Seeded views per training sample, beside the deterministic one."""
    cache: Annotated[CacheSettings, From("cache_features")]
    modality: Annotated[ModalitySettings, From("modality")]
    seed: Annotated[int, From("seed")]


def cache_prefix(
    dataset: Dataset, stats: Stats, features: Features, plan: Plan, warm_head: Classifier, cfg: CachePrefix
) -> Annotated[Features, "prefix"]:
    """Compute what enters the stages that train, of every sample and view; nothing where none trains."""
    from steps.core.features.cache import Data, build_prefix
    from steps.core.modalities.registry import modality

    if plan.skipped:
        return features.without_shards(plan)
    kind = modality(dataset.modality)
    samples = kind.decided(cfg.modality.of(kind.name), stats.kept_symmetries)
    views = kind.views(warm_head.preprocessing, samples, cfg.seed), cfg.views
    about = Data(dataset.table, dataset.labels, dataset.root, dataset.labelling)
    network, settings = warm_head.network(), (plan.boundary, cfg.cache, scratch())
    return Features(*build_prefix(about, network, warm_head.meta, views, *settings))


if __name__ == "__main__":
    main(cache_prefix)
