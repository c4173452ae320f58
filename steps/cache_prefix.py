"""The frozen-prefix cache: each view goes through the stages that stay frozen once, ever."""

from typing import Annotated, Any

from pydantic import Field

from steps.artifacts.backbone import Backbone
from steps.artifacts.dataset import Dataset
from steps.artifacts.features import Features
from steps.artifacts.models import Classifier
from steps.artifacts.plan import Plan
from steps.core.features.settings import CacheSettings
from steps.core.modalities.settings import ModalitySettings
from steps.core.system.config import Config, Count, Fraction
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch


class CachePrefix(Config):
    """See params.yaml."""

    views: Annotated[int, Field(ge=0)]
    """Seeded views per training sample, beside the deterministic one."""
    symmetry_samples: Count
    """Of train and val, that are embedded again under each symmetry that is `auto`."""
    symmetry_loss: Fraction
    """Accuracy that a probe may lose under a symmetry for training to use it."""
    cache: Annotated[CacheSettings, From("cache_features")]
    bootstrap: Annotated[int, From("measure_stats.bootstrap")]
    modality: Annotated[ModalitySettings, From("modality")]
    seed: Annotated[int, From("seed")]


def cache_prefix(
    dataset: Dataset,
    backbone: Backbone,
    features: Features,
    plan: Plan,
    warm_head: Classifier,
    cfg: CachePrefix,
) -> Annotated[Features, "prefix"]:
    """Compute what enters the stages that train, of every sample and view; nothing where none trains.

    Where the params leave it open, a probe says under which symmetries training sees the samples.
    """
    from steps.core.features.cache import Data, build_prefix
    from steps.core.modalities.registry import modality

    if plan.skipped:
        return features.without_shards(plan)
    kind = modality(dataset.modality)
    settings = cfg.modality.of(kind.name)
    found = symmetries(settings, dataset, backbone, features, cfg)
    samples = kind.decided(settings, {name: row["kept"] for name, row in found.items()})
    seen = kind.views(warm_head.preprocessing, samples, cfg.seed)
    views = seen, cfg.views if seen.seeded else 0
    about = Data(dataset.table, dataset.labels, dataset.root, dataset.labelling)
    network, limits = warm_head.network(), (plan.boundary, cfg.cache, scratch())
    index, shards, meta = build_prefix(about, network, warm_head.meta, views, *limits)
    return Features(index, shards, {**meta, "symmetries": found})


def symmetries(
    settings: Any,
    dataset: Dataset,
    backbone: Backbone,
    features: Features,
    cfg: CachePrefix,
) -> dict[str, Any]:
    """Return what a probe loses under each symmetry that the settings leave open; see `try_symmetries`."""
    from steps.core.backbones.readout import Readout
    from steps.core.data.rows import open_source
    from steps.core.features.embedding import Encoder
    from steps.core.features.symmetries import try_symmetries
    from steps.core.features.vectors import read_vectors
    from steps.core.modalities.registry import modality_of, preprocessing_of

    kind = modality_of(features.meta)
    if not (names := kind.undecided(settings)):
        return {}
    plain = read_vectors(features, Readout.top(features.meta["stages"]))
    encoder = Encoder(kind, backbone.meta["name"], backbone.weights, preprocessing_of(features.meta))
    source = open_source(dataset.root, scratch(), dataset.table)
    limits = (cfg.symmetry_samples, cfg.symmetry_loss, cfg.bootstrap, cfg.seed, scratch())
    return try_symmetries(names, plain, dataset.table, source, encoder, *limits, dataset.labelling)


if __name__ == "__main__":
    main(cache_prefix)
