"""Fit the new head on cached features; the backbone never runs."""

from typing import Annotated

from steps.artifacts.backbone import Backbone
from steps.artifacts.features import Features
from steps.artifacts.models import Classifier
from steps.core.features.settings import HeadSettings
from steps.runtime import tracking
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch


class WarmUpHead(HeadSettings):
    """See params.yaml."""

    bootstrap: Annotated[int, From("evaluate.bootstrap")]
    """Resamples behind the interval of what the head is worth on validation."""
    seed: Annotated[int, From("seed")]


def warm_up_head(
    features: Features, backbone: Backbone, cfg: WarmUpHead
) -> Annotated[Classifier, "warm_head"]:
    """Fit a linear head on z to its optimum, penalised as cross-validation says; the article's strategy A."""
    import numpy as np

    from steps.core.features.batches import open_batches
    from steps.core.features.probe import pooled
    from steps.core.modalities.networks import build_network
    from steps.core.modalities.registry import modality_of, preprocessing_of
    from steps.core.training.calibration import (
        calibrate,
        model_metadata,
        seed_everything,
        validation_interval,
    )
    from steps.core.training.head import train_head

    seed_everything(cfg.seed)
    meta = features.meta
    kind, preprocessing = modality_of(meta), preprocessing_of(meta)
    network = build_network(kind, meta["backbone"], preprocessing, len(meta["labels"]), backbone.weights)
    top = meta["stages"]
    network.freeze(top)
    batches = open_batches(features, top, PREDICTED_TOGETHER, cfg.seed, scratch())
    vectors = pooled(features, f"stage{top - 1}", np.arange(len(features.index_table)))
    trained, head = train_head(network, vectors, batches, cfg, cfg.seed)
    tracking.log_epoch(trained.best)
    chosen, metrics = calibrate(trained, batches)
    metrics |= validation_interval(trained, batches, chosen, cfg.bootstrap, cfg.seed)
    metrics |= {
        "inverse_penalty": head.inverse_penalty,
        "standardised": float(head.scaling == "standardised"),
    }
    metrics |= {"cv_loss": round(head.cv_loss, 6)}
    return Classifier(network.state(), model_metadata(meta, top, chosen), trained.records(), metrics)


PREDICTED_TOGETHER = 256  # validation samples


if __name__ == "__main__":
    main(warm_up_head)
