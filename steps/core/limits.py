"""What a data set must be like; apart from the checks themselves, whose library is slow to import."""

from typing import Literal

from pydantic import model_validator

from steps.core.config import Config, Count, Fraction


class Limits(Config):
    """What a data set must be like."""

    formats: list[str]
    labels: list[str] | None
    """The class names that may occur; null allows any."""
    min_side: Count
    max_side: Count
    min_per_class: Count
    """Samples of every class in a split: fewer stop the pipeline in train, and are a warning elsewhere."""
    max_unreadable: Fraction
    split_tolerance: Fraction
    """How far a split's share of the samples may lie from the one asked for."""
    duplicates: Literal["pass", "warn", "fail"]
    """What a file that occurs twice amounts to."""

    @model_validator(mode="after")
    def ordered(self) -> "Limits":
        """Refuse limits that no image can keep."""
        if self.min_side > self.max_side:
            raise ValueError("min_side at most max_side")
        return self
