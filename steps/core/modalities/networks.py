"""Networks for a modality's samples: its backbone under a head."""

from pathlib import Path

import torch

from steps.core.backbones.network import Network
from steps.core.backbones.readout import Readout
from steps.core.modalities.contract import Modality
from steps.core.modalities.parts import Preprocessing


def build_network(
    modality: Modality,
    name: str,
    preprocessing: Preprocessing,
    classes: int,
    weights: Path | None = None,
    readout: Readout | None = None,
) -> Network:
    """Build a backbone for inputs of this preprocessing under a head of zeros; see `Network.build`.

    Raises:
        BackboneError: Unknown name, unfit weights, or more stages asked for than there are.
    """
    backbone = modality.load_backbone(name, preprocessing, str(weights) if weights else None)
    example = preprocessing.batch([preprocessing.example()], torch.device("cpu"))
    return Network.build(backbone, example, classes, readout)
