"""Settings of text; apart from what uses them, whose libraries are slow to import."""

from typing import Annotated, Literal

from pydantic import Field

from steps.core.system.config import Config, Count, Fraction

Tokens = Annotated[int, Field(ge=16, le=512, multiple_of=16)]


class Settings(Config):
    """How texts are checked and read."""

    max_length: Tokens | Literal["auto"]
    """Tokens of a text, beyond which it is cut; `auto`: as many as 99 of 100 texts have."""
    max_auto_length: Tokens
    """Tokens that `auto` takes at most."""
    token_dropout: Fraction
    """Of the tokens of a training view, that are replaced by the mask; 0: training sees the text as it is."""
    max_characters: Count
    """A longer text is left out before it is read."""
    min_words: Count
    """Of a text, below which it is named."""
