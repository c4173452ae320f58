"""Hand on the backbone's weights: the pretrained ones, from here on an artifact of the run."""

from typing import Annotated, Literal

from steps.artifacts.backbone import Backbone
from steps.artifacts.dataset import Dataset
from steps.core.backbones.settings import BackboneConfig
from steps.core.system.config import Config
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch


class AdaptBackbone(Config):
    """See params.yaml."""

    objective: Literal["none"]
    """What the backbone is trained on before the task is; none: nothing."""
    backbone: Annotated[BackboneConfig, From("backbone")]


def adapt_backbone(dataset: Dataset, cfg: AdaptBackbone) -> Annotated[Backbone, "backbone"]:
    """Find the pretrained weights that suit the data's modality, and say where they are from.

    Raises:
        BackboneError: They cannot be had.
    """
    from steps.core.modalities.registry import modality
    from steps.core.system.storage import file_sha256

    kind, source = modality(dataset.modality), cfg.backbone.weights
    name = cfg.backbone.of(kind.default_backbone)
    weights = kind.find_weights(name, source, scratch())
    about = {"name": name, "source": source, "objective": cfg.objective}
    facts = {"sha256": file_sha256(weights), "licence": kind.licence(name)}
    return Backbone(weights, {**about, **facts})


if __name__ == "__main__":
    main(adapt_backbone)
