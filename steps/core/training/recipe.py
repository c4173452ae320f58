"""How a model is trained, as params.yaml says it."""

from typing import Annotated, Literal

from pydantic import Field

from steps.core.backbones.settings import BatchNorm, Precision
from steps.core.system.config import Config, Count, Fraction, Positive


class Recipe(Config):
    """How a model is trained; one loop reads it in every phase that trains."""

    epochs: Count
    """Passes over the training samples; more where `min_steps` asks for them."""
    min_steps: Annotated[int, Field(ge=0)]
    """Optimiser steps that a training has at least: a small set gets as many more epochs as that takes."""
    batch_size: Annotated[int, Field(ge=2)]
    """Samples of one step; BatchNorm has no variance of one."""
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["constant", "cosine", "one_cycle"]
    warmup: Fraction
    """Part of all optimiser steps in which the learning rate rises."""
    clip_norm: Positive | None
    """Greatest norm of the gradient of all trained parameters together; null: no clipping."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    mixup: Annotated[float, Field(ge=0)]
    """Alpha of MixUp's Beta distribution; 0 is off."""
    cutmix: Annotated[float, Field(ge=0)]
    """Alpha of CutMix's Beta distribution; 0 is off."""
    class_weights: Literal["auto", "balanced", "none"]
    """Whether rare classes weigh more in the loss; see `steps.core.training.objectives.class_weights`."""
    monitor: Literal["loss", "accuracy", "macro_f1"]
    """By which the best epoch is found on validation; between equals the loss decides."""
    patience: Count
    """Epochs that are not better, by `monitor`, after which training stops."""
    precision: Precision
    """Of the trained stages' products; see `steps.core.backbones.precision`. A lone head uses float32."""
    batch_norm: BatchNorm
    """Of the trained stages; see `steps.core.backbones.settings.freezes_statistics`. A lone head has none."""

    def planned_epochs(self, steps_per_epoch: int) -> int:
        """Return the epochs of a training whose epoch has so many optimiser steps."""
        return max(self.epochs, -(-self.min_steps // max(1, steps_per_epoch)))
