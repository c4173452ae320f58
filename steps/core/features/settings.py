"""Settings of the frozen-prefix cache."""

from typing import Annotated, Literal

from pydantic import Field

from steps.core.backbones.settings import Unfreeze
from steps.core.system.config import Config, Count


class CacheSettings(Config):
    """What the frozen-prefix cache is built by."""

    views: Annotated[int, Field(ge=0)]
    """Seeded views per training sample, beside the deterministic one."""
    dtype: Literal["float16", "float32"]
    shard_samples: Count
    micro_batch: Count
    unfreeze: Unfreeze
    seed: int
