"""Fit the new head on cached features; the backbone never runs."""

from typing import Annotated

from steps.artifacts.backbone import Backbone
from steps.artifacts.features import Features
from steps.artifacts.models import Classifier
from steps.artifacts.plan import Plan
from steps.core.features.settings import HeadSettings
from steps.runtime import tracking
from steps.runtime.params import From
from steps.runtime.run import main


class WarmUpHead(HeadSettings):
    """See params.yaml."""

    bootstrap: Annotated[int, From("evaluate.bootstrap")]
    """Resamples behind the interval of what the head is worth on validation."""
    seed: Annotated[int, From("seed")]


def warm_up_head(
    features: Features, backbone: Backbone, plan: Plan, cfg: WarmUpHead
) -> Annotated[Classifier, "warm_head"]:
    """Fit a linear head to its optimum, penalised as cross-validation says; the article's strategy A."""
    from steps.core.features.batches import batches_of_vectors
    from steps.core.features.vectors import read_vectors
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
    meta, reading = features.meta, plan.reading
    about = (modality_of(meta), meta["backbone"], preprocessing_of(meta), len(meta["labels"]))
    network = build_network(*about, backbone.weights, reading)
    network.freeze(reading.keep)
    vectors = read_vectors(features, reading)
    batches = batches_of_vectors(features, vectors, reading.keep, PREDICTED_TOGETHER, cfg.seed)
    trained, head = train_head(network, vectors, batches, cfg, cfg.seed)
    tracking.log_epoch(trained.best)
    chosen, metrics = calibrate(trained, batches)
    metrics |= validation_interval(trained, batches, chosen, cfg.bootstrap, cfg.seed)
    metrics |= {
        "inverse_penalty": head.inverse_penalty,
        "standardised": float(head.scaling == "standardised"),
        "cv_loss": round(head.cv_loss, 6),
    }
    metrics |= {f"predicted_{key}": float(plan.predicted[key]) for key in FORECAST if plan.predicted}
    return Classifier(network.state(), model_metadata(meta, reading, chosen), trained.records(), metrics)


PREDICTED_TOGETHER = 256  # validation samples
FORECAST = ("value", "low", "high")


if __name__ == "__main__":
    main(warm_up_head)
