"""What is trained, chosen by what the pretrained features give: the article's strategies A, B and C."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat

from steps.artifacts.features import Features
from steps.artifacts.plan import Plan
from steps.core.backbones.settings import Unfreeze
from steps.core.features.settings import HeadSettings
from steps.core.system.config import Config, Count
from steps.runtime.params import From
from steps.runtime.run import main


class Reading(Config):
    """Stages first ... keep - 1 are read by the head, later ones left out; counted from 0."""

    first: Annotated[int, Field(ge=0)]
    keep: Count
    deviations: bool
    """Whether the deviation over an output's places stands beside its mean."""


class ChooseStrategy(Config):
    """See params.yaml."""

    strategy: Literal["auto", "features", "partial", "full"]
    readout: Reading | Literal["auto", "top"]
    samples: Count
    """Of train and validation, on which heads are compared, at most."""
    least_errors: NonNegativeFloat
    """Mistakes of the features, expected in validation, up to which `auto` trains no stage."""
    bootstrap: Annotated[int, Field(ge=100)]
    unfreeze: Annotated[Unfreeze, From("fine_tune.unfreeze")]
    head: Annotated[HeadSettings, From("warm_up_head")]
    same_cost: Annotated[NonNegativeFloat, From("promote.same_cost")]
    seed: Annotated[int, From("seed")]


def choose_strategy(features: Features, cfg: ChooseStrategy) -> Annotated[Plan, "plan"]:
    """Compare heads on the cached features; say what the head reads, and whether stages are trained."""
    from steps.core.backbones.readout import Readout
    from steps.core.modalities.networks import build_network
    from steps.core.modalities.registry import modality_of, preprocessing_of
    from steps.core.strategy.candidates import costs_by_stage
    from steps.core.strategy.plan import compare_readouts, freeze_boundary, skip_reason

    meta, stages = features.meta, features.meta["stages"]
    unfreeze = "all" if cfg.strategy == "full" else cfg.unfreeze
    validation = int((features.index_table["split"] == "val").sum())
    predicted: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    error_rate = None
    if cfg.readout == "auto":
        preprocessing = preprocessing_of(meta)
        network = build_network(modality_of(meta), meta["backbone"], preprocessing, len(meta["labels"]))
        costs = costs_by_stage(network, preprocessing)
        length = unfreeze + 1 if isinstance(unfreeze, int) and unfreeze else stages // 2
        limits = (cfg.samples, cfg.same_cost, cfg.bootstrap, cfg.seed)
        chosen, rows, predicted, error_rate = compare_readouts(features, costs, length, cfg.head, limits)
    elif cfg.readout == "top":
        chosen = Readout.top(stages)
    else:
        chosen = Readout(**cfg.readout.model_dump()).within(stages)
    boundary = freeze_boundary(unfreeze, chosen, stages)
    skipped = skip_reason(cfg.strategy, error_rate, validation, cfg.least_errors)
    return Plan(chosen.to_dict(), boundary, skipped, predicted, rows, chosen.named())


if __name__ == "__main__":
    main(choose_strategy)
