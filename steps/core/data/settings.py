"""What may be said of a table's columns; apart from what uses it, whose libraries are slow to import."""

from typing import Annotated

from pydantic import Field

from steps.core.system.config import Config


class Columns(Config):
    """The names of a table's columns; null leaves one to be recognised."""

    path: str | None
    """The sample's file."""
    label: str | Annotated[list[str], Field(min_length=2)] | None
    """The class, or the columns of 0 and 1, one for each class."""
    split: str | None
    group: str | None
