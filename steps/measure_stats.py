"""Per-channel mean and standard deviation of the train split, and what samples are normalised with."""

from typing import Annotated, Literal

from pydantic import Field

from steps.artifacts.backbone import Backbone
from steps.artifacts.dataset import Dataset
from steps.artifacts.stats import Stats
from steps.core.modalities.settings import ModalitySettings
from steps.core.system.config import Config, Count
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch


class MeasureStats(Config):
    """See params.yaml."""

    choice: Literal["trial", "pretrained", "dataset", "image"]
    trial_samples: Count
    bootstrap: Annotated[int, Field(ge=100)]
    modality: Annotated[ModalitySettings, From("modality")]
    seed: Annotated[int, From("seed")]


def measure_stats(dataset: Dataset, backbone: Backbone, cfg: MeasureStats) -> Annotated[Stats, "stats"]:
    """Stream the train split once, and choose: as the params say, or by what a probe does best with."""
    from steps.core.data.rows import open_source
    from steps.core.features.embedding import encoder_of
    from steps.core.features.normalisation import compare_normalisations
    from steps.core.modalities.registry import modality

    kind = modality(dataset.modality)
    encoder = encoder_of(kind, backbone.meta["name"], backbone.weights, cfg.modality, dataset.table)
    pretrained = encoder.preprocessing.to_dict()
    paths = list(dataset.part("train")["path"])
    source = open_source(dataset.root, scratch(), dataset.table)
    moments = kind.measure(source, paths, encoder.preprocessing)
    measured = {"mean": moments.mean(), "std": moments.std()}
    published = {name: pretrained.get(name, []) for name in measured}
    ways = kind.normalisations(encoder.preprocessing, moments)
    trial = {}
    if cfg.choice == "trial":
        about = (cfg.trial_samples, cfg.bootstrap, cfg.seed, scratch())
        trial = compare_normalisations(ways, dataset.table, source, encoder, *about, dataset.labelling)
    choice = trial["choice"] if trial else cfg.choice
    return Stats(measured, published, choice, moments.count, ways[choice].to_dict(), trial)


if __name__ == "__main__":
    main(measure_stats)
