"""The base of everything that is set from outside, and the types of its values."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Watched:
    """Marks a field that names a file beside params.yaml: what is in it counts, not its name alone."""


WatchedFile = Annotated[str, Watched()]


class Config(BaseModel):
    """Base of every config: frozen, no unknown keys, no silent conversion, no defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
