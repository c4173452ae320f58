"""Per-channel mean and standard deviation of the train split, and what images are normalised with."""

from typing import Annotated, Literal

from pydantic import Field

from steps.artifacts.dataset import Dataset
from steps.artifacts.stats import Stats
from steps.core.system.config import BackboneConfig, Config, Count
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch


class MeasureStats(Config):
    """See params.yaml."""

    choice: Literal["trial", "pretrained", "dataset", "image"]
    trial_samples: Count
    bootstrap: Annotated[int, Field(ge=100)]
    backbone: Annotated[BackboneConfig, From("backbone")]
    seed: Annotated[int, From("seed")]


def measure_stats(dataset: Dataset, cfg: MeasureStats) -> Annotated[Stats, "stats"]:
    """Stream the train split once, and choose: as the params say, or by what a probe does best with."""
    from steps.core.data.files import Folder
    from steps.core.features.normalisation import hold_trial, ways
    from steps.core.modalities.image.moments import pretrained_preprocessing, stream_moments

    pretrained = pretrained_preprocessing(cfg.backbone.name, cfg.backbone.image_size)
    paths = list(dataset.part("train")["path"])
    folder = Folder(dataset.root, scratch(), dataset.table)
    moments = stream_moments(folder, paths, pretrained)
    measured = {"mean": moments.mean(), "std": moments.std()}
    published = {"mean": list(pretrained.mean), "std": list(pretrained.std)}
    looks = ways(pretrained, moments.mean(), moments.std())
    trial = {}
    if cfg.choice == "trial":
        about = (cfg.trial_samples, cfg.bootstrap, cfg.seed, scratch())
        trial = hold_trial(looks, dataset.table, folder, cfg.backbone, *about, dataset.labelling)
    choice = trial["choice"] if trial else cfg.choice
    return Stats(measured, published, choice, moments.pixels, looks[choice].to_dict(), trial)


if __name__ == "__main__":
    main(measure_stats)
