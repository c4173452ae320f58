"""Go on from the champion too; keep what validates better, that or the start from pretrained weights."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from steps.artifacts.features import Features
from steps.artifacts.learning_rates import LearningRates
from steps.artifacts.models import Classifier
from steps.artifacts.watch import Watch
from steps.core.system.config import Config, Fraction
from steps.fine_tune import FineTuneSection
from steps.runtime import mlflow_client, tracking
from steps.runtime.params import From
from steps.runtime.registry import Registry
from steps.runtime.run import main
from steps.runtime.scratch import scratch, training_file

if TYPE_CHECKING:
    from steps.core.backbones.network import Network


class WarmStart(Config):
    """See params.yaml."""

    rate: Fraction
    """Of the searched learning rates, for weights that have been trained already."""
    recipe: Annotated[FineTuneSection, From("fine_tune")]
    seed: Annotated[int, From("seed")]


def warm_start(
    features: Features, finetuned: Classifier, learning_rates: LearningRates, watch: Watch, cfg: WarmStart
) -> Annotated[Classifier, "finetuned"]:
    """Fine-tune the champion on the data of now, by the same recipe; the lower validation loss wins."""
    from steps.core.backbones.precision import halves
    from steps.core.backbones.processes import device
    from steps.core.features.batches import open_batches
    from steps.core.training.calibration import calibrate, describe, seeded
    from steps.core.training.loop import train
    from steps.core.training.objectives import Classify
    from steps.core.training.parameter_groups import parameter_groups

    seeded(cfg.seed)
    fresh = told(finetuned, from_champion=0.0)
    if (network := champion_network(features, finetuned, watch)) is None:
        return fresh
    boundary = features.meta["boundary"]
    batches = open_batches(features, boundary, cfg.recipe.batch_size, cfg.seed, scratch())
    head_lr = cfg.rate * learning_rates.head_lr
    groups = parameter_groups(network, boundary, head_lr, learning_rates.ratio, learning_rates.weight_decay)
    inputs = (features.digest, finetuned.digest, learning_rates.digest, watch.digest)
    half = halves(cfg.recipe.precision, device())
    file = training_file("warm_start", *inputs, cfg.model_dump_json(), str(half))
    task = Classify(cfg.recipe)
    trained = train(network, boundary, task, batches, cfg.recipe, groups, tracking.log_epoch, file)
    chosen, metrics = calibrate(trained, batches)
    losses = {"pretrained": finetuned.metrics["val_loss"], "champion": metrics["val_loss"]}
    tracking.log({f"val_loss_from_{start}": loss for start, loss in losses.items()})
    if losses["champion"] >= losses["pretrained"]:
        return fresh
    meta = describe(features.meta, features.meta["stages"], chosen)
    warm = Classifier(network.state(), meta, trained.records(), metrics)
    return told(warm, souped=0.0, bfloat16=float(half), from_champion=1.0)


def told(model: Classifier, **facts: float) -> Classifier:
    """Return the model with more figures on it."""
    return replace(model, metrics={**model.metrics, **facts})


def champion_network(features: Features, finetuned: Classifier, watch: Watch) -> "Network | None":
    """Return the champion's network, if the cache of features is true for it.

    It is where backbone, labels and preprocessing are those of now, and everything below the freeze
    boundary is what the pretrained backbone has there.
    """
    from steps.core.backbones.network import frozen_digest
    from steps.core.tasks.targets import of_model

    if "version" not in watch.champion:
        return None
    registry = Registry(watch.champion["name"], mlflow_client.connect())
    champion = registry.load(watch.champion["version"], scratch())
    same = ("backbone", "stages", "labels", "preprocessing")
    if any(champion.meta[key] != finetuned.meta[key] for key in same):
        return None
    if of_model(champion.meta) is not of_model(finetuned.meta):  # one label, or sets of them
        return None
    boundary = features.meta["boundary"]
    theirs, ours = champion.network(), finetuned.network()
    if frozen_digest(theirs, boundary) != frozen_digest(ours, boundary):
        return None
    theirs.freeze(boundary)
    return theirs


if __name__ == "__main__":
    main(warm_start)
