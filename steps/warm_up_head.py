"""Train the new head on cached features; the backbone never runs."""

from typing import Annotated

from steps.artifacts.backbone import Backbone
from steps.artifacts.features import Features
from steps.artifacts.models import Classifier
from steps.core.training.recipe import HeadRecipe
from steps.runtime import tracking
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch, training_file


class WarmUpHead(HeadRecipe):
    """See params.yaml."""

    bootstrap: Annotated[int, From("evaluate.bootstrap")]
    """Resamples behind the interval of what the head is worth on validation."""
    seed: Annotated[int, From("seed")]


def warm_up_head(
    features: Features, backbone: Backbone, cfg: WarmUpHead
) -> Annotated[Classifier, "warm_head"]:
    """Fit a linear head on z, with early stopping on validation loss; strategy A of the article."""
    from steps.core.features.batches import open_batches
    from steps.core.modalities.networks import build_network
    from steps.core.modalities.registry import modality_of, preprocessing_of
    from steps.core.training.calibration import (
        calibrate,
        model_metadata,
        seed_everything,
        validation_interval,
    )
    from steps.core.training.loop import train
    from steps.core.training.objectives import Classify, class_weights
    from steps.core.training.parameter_groups import parameter_groups

    seed_everything(cfg.seed)
    meta = features.meta
    kind, preprocessing = modality_of(meta), preprocessing_of(meta)
    network = build_network(kind, meta["backbone"], preprocessing, len(meta["labels"]), backbone.weights)
    top = meta["stages"]
    network.freeze(top)
    batches = open_batches(features, top, cfg.batch_size, cfg.seed, scratch())
    groups = parameter_groups(network, top, cfg.head_lr, 1.0, cfg.weight_decay)
    file = training_file("warm_up_head", features.digest, cfg.model_dump_json())
    task = Classify(cfg, class_weights(cfg, batches))
    trained = train(network, top, task, batches, cfg, groups, tracking.log_epoch, file)
    chosen, metrics = calibrate(trained, batches)
    metrics |= validation_interval(trained, batches, chosen, cfg.bootstrap, cfg.seed)
    return Classifier(network.state(), model_metadata(meta, top, chosen), trained.records(), metrics)


if __name__ == "__main__":
    main(warm_up_head)
