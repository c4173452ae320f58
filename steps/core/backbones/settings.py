"""Settings of the pretrained network; apart from the networks, whose libraries are slow to import."""

from typing import Annotated, Literal

from pydantic import Field

from steps.core.system.config import Config

Unfreeze = Annotated[int, Field(ge=0)] | Literal["all"]
"""How many of the last stages train: 0, 1, 2, ... or all."""

Precision = Literal["auto", "bfloat16", "float32"]
"""Of products in a training; auto: bfloat16 where that is faster."""


BatchNorm = Literal["auto", "frozen", "updated"]
"""Statistics of the BatchNorms in the stages that train; see `freezes_statistics`."""

STATISTICS_SAMPLES = 10_000


def freezes_statistics(choice: BatchNorm, samples: int) -> bool:
    """Say whether BatchNorm's statistics stay as pretrained; `auto`: below STATISTICS_SAMPLES of train.

    Batches of a small set move the statistics, by the noise of 32 samples, further than so few steps move
    the weights, and validation then sees other activations than the head was trained on: of three sets of
    177 to 413 training samples two gained 5 points and more by freezing (docs/experiments.md). From the size
    on which all stages are usually trained, batches say more of the data than the pretraining's statistics.

    Args:
        choice: As params.yaml has it.
        samples: Training samples.
    """
    return choice == "frozen" or (choice == "auto" and samples < STATISTICS_SAMPLES)


class BackboneConfig(Config):
    """Which pretrained network, and where its weights come from."""

    name: str
    """Of images any timm model name, of text any encoder of transformers; `auto`: the modality's default."""
    weights: str
    """`packaged`, `hub`, or the path of a .safetensors file; of text also of a folder."""

    def of(self, default: str) -> str:
        """Return the name, where the modality's default is `default`."""
        return default if self.name == "auto" else self.name
