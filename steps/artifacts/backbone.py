"""The weights that every later phase starts from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from steps.core.system.storage import Artifact, Blob, Headline, read_json, to_json

FILE = "weights.safetensors"


@dataclass(frozen=True)
class Backbone(Artifact):
    """A backbone's weights, as they were pretrained or adapted since, and where they come from."""

    weights: Path
    """A safetensors file, under the names that the backbone's own library gives."""
    meta: dict[str, Any]
    """name, source, sha256, licence, objective of the adaptation."""

    def files(self) -> Mapping[str, Blob]:
        return {FILE: self.weights, "backbone.json": to_json(self.meta)}

    @classmethod
    def read(cls, folder: Path) -> Self:
        return cls(folder / FILE, *read_json(folder, "backbone"))

    def headline(self) -> Headline:
        size = self.weights.stat().st_size / 1e6
        facts = {key: self.meta[key] for key in ("name", "source", "licence", "objective")}
        return {**facts, "megabytes": round(size, 1)}

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        objective = headline["objective"]
        adapted = "as it was pretrained" if objective == "none" else f"adapted by {objective}"
        return f"{headline['name']}, {headline['megabytes']} MB, {adapted}"

    def lineage(self) -> dict[str, str]:
        return {"weights_digest": self.meta["sha256"]}
