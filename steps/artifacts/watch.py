"""What a retraining is decided by, and what it brought."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from steps.core.system.storage import (
    Headline,
    JsonArtifact,
)

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Watch(JsonArtifact):
    """Whether a retraining is worth its time, and why."""

    reasons: list[str]
    """Why to train; none: there is nothing to do."""
    champion: dict[str, str]
    """Name and version that the data set was compared for; no version: there is no champion."""
    counts: dict[str, int] = field(default_factory=dict)
    """Samples that are new or relabelled since."""
    tests: list[dict[str, Any]] = field(default_factory=list)
    """Of drift: what was tested, p, the limit, samples."""
    newest: list[str] = field(default_factory=list)
    """SHA-256 of every new sample."""

    file: ClassVar[str] = "watch.json"

    @property
    def verdict(self) -> str:
        """What to do."""
        return "retrain" if self.reasons else "nothing to do"

    def headline(self) -> Headline:
        return {"verdict": self.verdict, "why": "; ".join(self.reasons) or "no reason", **self.counts}

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        return f"{headline['verdict']}: {headline['why']}"


@dataclass(frozen=True)
class Newest(JsonArtifact):
    """The champion and its challenger on old and on new test samples, apart."""

    parts: dict[str, Any]
    """Of frozen and newest: samples, and accuracy with interval of each model, and the paired gain."""

    file: ClassVar[str] = "newest.json"

    def headline(self) -> Headline:
        return {
            f"{part}_{name}": figure["value"]
            for part, found in self.parts.items()
            for name, figure in found["accuracy"].items()
        }
