"""Train the last stages and the head, each at its own rate; the prefix below comes from the cache."""

from typing import Annotated

from pydantic import model_validator

from steps.artifacts.features import Features
from steps.artifacts.learning_rates import LearningRates
from steps.artifacts.models import Classifier
from steps.core.backbones.settings import Unfreeze, freezes_statistics
from steps.core.system.config import Fraction
from steps.core.training.recipe import Recipe
from steps.runtime import tracking
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch, training_file


class FineTuneSection(Recipe):
    """The section of params.yaml, which the search reads too."""

    unfreeze: Unfreeze
    interpolate: list[Fraction]
    """Tried on validation between the weights before (0) and after (1) the training; [] keeps those after."""

    @model_validator(mode="after")
    def nothing_to_cut(self) -> "FineTuneSection":
        """Refuse CutMix where only the head trains, on pooled vectors: it would do nothing."""
        if self.cutmix and self.unfreeze == 0:
            raise ValueError(
                "cutmix 0 where unfreeze is 0: the head is trained on pooled vectors, which have no rows and "
                "columns to cut; mixup mixes them as a whole"
            )
        return self


class FineTune(FineTuneSection):
    """See params.yaml."""

    seed: Annotated[int, From("seed")]


def fine_tune(
    prefix: Features, warm_head: Classifier, learning_rates: LearningRates, cfg: FineTune
) -> Annotated[Classifier, "finetuned"]:
    """Fine-tune from the warmed-up head: strategy A, B or C of the article for 0, k or all stages."""
    from steps.core.backbones.precision import uses_bfloat16
    from steps.core.backbones.processes import device
    from steps.core.features.batches import open_batches
    from steps.core.strategy.soup import use_soup_if_better
    from steps.core.training.calibration import calibrate, model_metadata, seed_everything
    from steps.core.training.interpolation import interpolate
    from steps.core.training.loop import train
    from steps.core.training.objectives import Classify, class_weights
    from steps.core.training.parameter_groups import parameter_groups

    meta = prefix.meta
    if "skipped" in meta:
        return warm_head.passed_on(meta["skipped"])
    seed_everything(cfg.seed)
    boundary = meta["boundary"]
    network = warm_head.network()
    network.freeze(boundary)
    batches = open_batches(prefix, boundary, cfg.batch_size, cfg.seed, scratch())
    rates = (learning_rates.head_lr, learning_rates.ratio, learning_rates.weight_decay)
    groups = parameter_groups(network, boundary, *rates)
    inputs, half = (
        (prefix.digest, warm_head.digest, learning_rates.digest),
        uses_bfloat16(cfg.precision, device()),
    )
    file = training_file("fine_tune", *inputs, cfg.model_dump_json(), str(half))
    weights = class_weights(cfg, batches)
    task = Classify(cfg, weights)
    trained = train(network, boundary, task, batches, cfg, groups, tracking.log_epoch, file)
    trained, fraction = interpolate(trained, warm_head.state, cfg.interpolate, batches, cfg.monitor)
    trained, souped = use_soup_if_better(trained, learning_rates.soup, batches, cfg.monitor)
    chosen, metrics = calibrate(trained, batches)
    fixed = freezes_statistics(cfg.batch_norm, len(batches.rows("train")))
    metrics |= {
        "interpolated": fraction,
        "souped": float(souped),
        "bfloat16": float(half),
        "batch_norm_frozen": float(fixed),
        "class_weights": float(weights is not None),
    }
    return Classifier(
        network.state(), model_metadata(meta, network.readout, chosen), trained.records(), metrics
    )


if __name__ == "__main__":
    main(fine_tune)
