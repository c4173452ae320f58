"""Statistics of the train split, and how samples are preprocessed."""

from dataclasses import dataclass
from typing import Any, ClassVar

from steps.core.system.storage import (
    Headline,
    JsonArtifact,
)


@dataclass(frozen=True)
class Stats(JsonArtifact):
    """Per-channel mean and std, of the train split and of the pretraining, and which one is used."""

    dataset: dict[str, list[float]]
    pretrained: dict[str, list[float]]
    choice: str
    count: int
    """Values of every channel."""
    preprocessing: dict[str, Any]
    trial: dict[str, Any]
    """How well a probe does with each way to normalise; empty where the params choose."""

    file: ClassVar[str] = "stats.json"

    def headline(self) -> Headline:
        mean, std = (" ".join(f"{v:.3f}" for v in self.dataset[key]) for key in ("mean", "std"))
        gains = {name: way["gain"]["value"] for name, way in self.trial.get("ways", {}).items()}
        found: Headline = {"mean": mean, "std": std, "choice": self.choice}
        found |= {f"gain_{name}": gain for name, gain in gains.items()}
        return found

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        ways = {
            "pretrained": "as in pretraining",
            "dataset": "by this data set's mean and spread",
            "image": "each by itself",
        }
        return f"inputs are prepared {ways.get(str(headline['choice']), headline['choice'])}"
