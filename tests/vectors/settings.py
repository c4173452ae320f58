"""Settings of vectors."""

from typing import Annotated

from pydantic import Field

from steps.core.system.config import Config


class Settings(Config):
    """How vectors are looked at."""

    noise: Annotated[float, Field(ge=0)]
    """Standard deviation of what is added to every number of a training view."""
