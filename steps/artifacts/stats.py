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
    symmetries: dict[str, Any]
    """What a probe loses under each symmetry that the params leave open, and whether training uses it."""

    file: ClassVar[str] = "stats.json"

    def headline(self) -> Headline:
        mean, std = (" ".join(f"{v:.3f}" for v in self.dataset[key]) for key in ("mean", "std"))
        gains = {name: way["gain"]["value"] for name, way in self.trial.get("ways", {}).items()}
        found = {"mean": mean, "std": std, "choice": self.choice}
        found |= {f"gain_{name}": gain for name, gain in gains.items()}
        return {**found, **{name: int(kept) for name, kept in self.kept_symmetries.items()}}

    @property
    def kept_symmetries(self) -> dict[str, bool]:
        """Whether training uses each symmetry that the params leave open."""
        return {name: row["kept"] for name, row in self.symmetries.items()}

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        ways = {
            "pretrained": "as in pretraining",
            "dataset": "by this data set's mean and spread",
            "image": "each by itself",
        }
        said = f"inputs are normalised {ways.get(str(headline['choice']), headline['choice'])}"
        kept = [name for name, value in headline.items() if type(value) is int and value]
        plural = " and ".join(f"{name.replace('_', ' ')}s" for name in kept)
        return f"{said}; training also sees {plural}" if kept else said
