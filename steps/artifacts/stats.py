"""Statistics of the train split, and how samples are preprocessed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from steps.core.system.storage import (
    Headline,
    Record,
)

if TYPE_CHECKING:
    from steps.core.modalities.image.pixels import Preprocessing


@dataclass(frozen=True)
class Stats(Record):
    """Per-channel mean and std, of the train split and of the pretraining, and which one is used."""

    dataset: dict[str, list[float]]
    pretrained: dict[str, list[float]]
    choice: str
    pixels: int
    preprocessing: dict[str, Any]
    trial: dict[str, Any]
    """How well a probe does with each way to normalise; empty where the params choose."""

    file: ClassVar[str] = "stats.json"

    def headline(self) -> Headline:
        mean, std = (" ".join(f"{v:.3f}" for v in self.dataset[key]) for key in ("mean", "std"))
        gains = {name: way["gain"]["value"] for name, way in self.trial.get("ways", {}).items()}
        return {"mean": mean, "std": std, "choice": self.choice, **{f"gain_{k}": v for k, v in gains.items()}}

    def look(self) -> "Preprocessing":
        """Return the preprocessing with the chosen statistics."""
        from steps.core.modalities.image.pixels import Preprocessing

        return Preprocessing.from_dict(self.preprocessing)
