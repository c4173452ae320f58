"""Settings of the caches of frozen stages, and of the heads on them."""

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator

from steps.core.system.config import Config, Count, Positive


class CacheSettings(Config):
    """How cached values are computed and kept."""

    dtype: Literal["float16", "float32"]
    shard_samples: Count
    micro_batch: Count


class HeadSettings(Config):
    """How a linear head is fitted to vectors that stay as they are; see `steps.core.features.linear_head`."""

    scaling: Literal["auto", "standardised", "raw"]
    """Of the vectors before they are penalised; auto: what cross-validation prefers. It is folded in."""
    inverse_penalties: Annotated[list[Positive], Field(min_length=2, max_length=2)]
    """scikit-learn's C, [least, greatest]: cross-validation chooses among powers of 10 between them."""
    folds: Annotated[int, Field(ge=2)]
    """Of the cross-validation; a group is never divided."""
    samples: Count
    """Of train, on which scaling and penalty are chosen, at most; the head is then fitted on all."""
    class_weights: Literal["auto", "none", "balanced"]
    """See `steps.core.training.objectives.class_weights`."""

    @field_validator("inverse_penalties")
    @classmethod
    def rising(cls, pair: list[float]) -> list[float]:
        """Refuse a range that is empty."""
        if pair[0] >= pair[1]:
            raise ValueError("the least first, then the greatest")
        return pair

    def grid(self) -> list[float]:
        """Return the values of C, the strongest penalty first."""
        low, high = (math.log10(end) for end in self.inverse_penalties)
        count = round(high - low) + 1
        return [10 ** (low + (high - low) * step / max(1, count - 1)) for step in range(count)]
