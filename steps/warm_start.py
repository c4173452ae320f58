"""Go on from the champion too; keep what validates better, that or the start from pretrained weights."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from steps.artifacts.features import Features
from steps.artifacts.learning_rates import LearningRates
from steps.artifacts.models import Classifier
from steps.artifacts.watch import Watch
from steps.core.system.config import Config, Fraction
from steps.core.system.errors import ModelLostError
from steps.fine_tune import FineTuneSection
from steps.runtime import mlflow_client, tracking
from steps.runtime.acquaintance import ORIGIN, learnt_by, recognised
from steps.runtime.params import From
from steps.runtime.registry import Registry
from steps.runtime.run import main
from steps.runtime.scratch import scratch, training_file

if TYPE_CHECKING:
    from steps.core.backbones.network import Network


log = logging.getLogger("headstart")


class WarmStart(Config):
    """See params.yaml."""

    lr_factor: Fraction
    """Of the searched learning rates, for weights that have been trained already."""
    recipe: Annotated[FineTuneSection, From("fine_tune")]
    max_leaked: Annotated[float, From("validate_data.max_leaked")]
    """Share of the held-out samples that the champion may have learnt from, for it to be gone on from."""
    print_samples: Annotated[int, From("promote.print_samples")]
    near_copy: Annotated[float, From("validate_data.near_copy")]
    near_copy_margin: Annotated[float, From("validate_data.near_copy_margin")]
    seed: Annotated[int, From("seed")]


def warm_start(
    prefix: Features, finetuned: Classifier, learning_rates: LearningRates, watch: Watch, cfg: WarmStart
) -> Annotated[Classifier, "finetuned"]:
    """Fine-tune the champion on the data of now, by the same recipe; the lower validation loss wins."""
    from steps.core.backbones.precision import uses_bfloat16
    from steps.core.backbones.processes import device
    from steps.core.backbones.settings import freezes_statistics
    from steps.core.features.batches import open_batches
    from steps.core.training.calibration import calibrate, model_metadata, seed_everything
    from steps.core.training.loop import train
    from steps.core.training.objectives import Classify, class_weights
    from steps.core.training.parameter_groups import parameter_groups

    seed_everything(cfg.seed)
    fresh = with_metrics(finetuned, from_champion=0.0)
    if "skipped" in prefix.meta:
        return fresh
    if (network := champion_network(prefix, finetuned, watch, cfg)) is None:
        return fresh
    boundary = prefix.meta["boundary"]
    batches = open_batches(prefix, boundary, cfg.recipe.batch_size, cfg.seed, scratch())
    head_lr = cfg.lr_factor * learning_rates.head_lr
    groups = parameter_groups(network, boundary, head_lr, learning_rates.ratio, learning_rates.weight_decay)
    inputs = (prefix.digest, finetuned.digest, learning_rates.digest, watch.digest)
    half = uses_bfloat16(cfg.recipe.precision, device())
    file = training_file("warm_start", *inputs, cfg.model_dump_json(), str(half))
    task = Classify(cfg.recipe, class_weights(cfg.recipe, batches))
    trained = train(network, boundary, task, batches, cfg.recipe, groups, tracking.log_epoch, file)
    chosen, metrics = calibrate(trained, batches)
    fixed = freezes_statistics(cfg.recipe.batch_norm, len(batches.rows("train")))
    losses = {"pretrained": finetuned.metrics["val_loss"], "champion": metrics["val_loss"]}
    tracking.log({f"val_loss_from_{start}": loss for start, loss in losses.items()})
    if losses["champion"] >= losses["pretrained"]:
        return fresh
    meta = {**model_metadata(prefix.meta, network.readout, chosen), ORIGIN: watch.champion}
    warm = Classifier(network.state(), meta, trained.records(), metrics)
    how = {"bfloat16": float(half), "batch_norm_frozen": float(fixed)}
    return with_metrics(warm, souped=0.0, from_champion=1.0, **how)


def with_metrics(model: Classifier, **facts: float) -> Classifier:
    """Return the model with more figures on it."""
    return replace(model, metrics={**model.metrics, **facts})


def champion_network(
    prefix: Features, finetuned: Classifier, watch: Watch, cfg: WarmStart
) -> "Network | None":
    """Return the champion's network, if it can be gone on from.

    The cached prefix is true for it where backbone, labels and preprocessing are those of now, and
    everything below the freeze boundary is what the pretrained backbone has there. And it must not have
    learnt from what is held out now.
    """
    from steps.core.backbones.network import frozen_digest
    from steps.core.tasks.targets import kind_for_model

    if "version" not in watch.champion:
        return None
    registry = Registry(watch.champion["name"], mlflow_client.connect())
    try:
        champion = registry.load(watch.champion["version"], scratch())
    except ModelLostError as error:
        log.warning("%s", error)
        return None
    same = ("backbone", "labels", "preprocessing")
    if any(champion.meta[key] != finetuned.meta[key] for key in same):
        return None
    if kind_for_model(champion.meta) is not kind_for_model(finetuned.meta):  # one label, or sets of them
        return None
    boundary = prefix.meta["boundary"]
    theirs, ours = champion.network(), finetuned.network()
    if theirs.readout != ours.readout:
        return None
    if frozen_digest(theirs, boundary) != frozen_digest(ours, boundary):
        return None
    if has_seen_held_out(registry, watch.champion["version"], prefix, cfg):
        return None
    theirs.freeze(boundary)
    return theirs


def has_seen_held_out(registry: Registry, version: str, prefix: Features, cfg: WarmStart) -> bool:
    """Say whether the champion was trained on validation samples of now, or has learnt from test samples.

    They may lie in the data set under other bytes: samples are found again by their prints too. As many
    as the audit lets pass (`validate_data.max_leaked`) do not count.
    """
    from steps.core.audit.known_samples import with_prints
    from steps.core.modalities.registry import modality_of

    table = prefix.index_table
    kind = modality_of(prefix.meta)
    own = with_prints(kind, prefix.meta["root"], table, cfg.print_samples, scratch())
    if (known := learnt_by(registry, version, own, scratch())) is None:
        log.warning("version %s keeps no record of what it has learnt from: it is not gone on from", version)
        return True
    trained = known[known["split"] == "train"]
    seen = 0
    for split, rows in (("val", trained), ("test", known)):
        found = recognised(kind, table[table["split"] == split], rows, own, cfg.model_dump())
        seen += int(found.any.sum())
    held_out = int((table["split"] != "train").sum())
    if seen <= cfg.max_leaked * held_out:
        return False
    log.warning(
        "version %s of %s has learnt from %d of the %d images of validation and test: it is not gone on from",
        version, registry.name, seen, held_out,
    )  # fmt: skip
    return True


if __name__ == "__main__":
    main(warm_start)
