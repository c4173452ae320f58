"""Per-channel mean and standard deviation of the train split, and which statistics are used."""

from typing import Annotated, Literal

from steps.artifacts import Dataset, Stats
from steps.config import From
from steps.core.config import BackboneConfig, Config
from steps.run import main
from steps.scratch import scratch


class MeasureStats(Config):
    """See params.yaml."""

    choice: Literal["pretrained", "dataset"]
    backbone: Annotated[BackboneConfig, From("backbone")]


def measure_stats(dataset: Dataset, cfg: MeasureStats) -> Annotated[Stats, "stats"]:
    """Stream the train split once, through the deterministic view that the network will see."""
    from steps.core.files import Folder
    from steps.core.moments import pretrained_preprocessing, stream_moments

    pretrained = pretrained_preprocessing(cfg.backbone.name, cfg.backbone.image_size)
    paths = list(dataset.part("train")["path"])
    moments = stream_moments(Folder(dataset.root, scratch()), paths, pretrained)
    measured = {"mean": moments.mean(), "std": moments.std()}
    published = {"mean": list(pretrained.mean), "std": list(pretrained.std)}
    chosen = measured if cfg.choice == "dataset" else published
    look = {**pretrained.to_dict(), **chosen}
    return Stats(measured, published, cfg.choice, moments.pixels, look)


if __name__ == "__main__":
    main(measure_stats)
