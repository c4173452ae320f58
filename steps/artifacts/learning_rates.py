"""What the learning-rate search found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from steps.core.system.storage import (
    Artifact,
    Blob,
    Headline,
    read_json,
    to_json,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LearningRates(Artifact):
    """The winner of the search, every trial, the uniform-rate control, and a soup if it was better."""

    head_lr: float
    ratio: float | list[float]
    """Rate of a stage over that of the next; a list has one per boundary, the last first."""
    weight_decay: float
    trials: list[dict[str, Any]]
    summary: dict[str, Any]
    html: str = field(repr=False)
    soup: "dict[str, Tensor] | None" = field(default=None, repr=False)

    def files(self) -> Mapping[str, Blob]:
        from safetensors.torch import save

        names = ("head_lr", "ratio", "weight_decay", "trials", "summary")
        facts = {name: getattr(self, name) for name in names}
        soup = {"soup.safetensors": save(self.soup)} if self.soup else {}
        return {"learning_rates.json": to_json(facts), "search.html": self.html.encode(), **soup}

    @classmethod
    def read(cls, folder: Path) -> Self:
        from safetensors.torch import load

        (facts,) = read_json(folder, "learning_rates")
        soup = folder / "soup.safetensors"
        html = (folder / "search.html").read_text(encoding="utf-8")
        return cls(**facts, html=html, soup=load(soup.read_bytes()) if soup.exists() else None)

    def headline(self) -> Headline:
        if "skipped" in self.summary:
            return {"skipped": self.summary["skipped"]}
        ratio = self.ratio if isinstance(self.ratio, int | float) else str(self.ratio)
        comparison = self.summary["comparison"] or {"verdict": "no control"}
        return {
            "head_lr": self.head_lr,
            "ratio": ratio,
            "weight_decay": self.weight_decay,
            "trials": self.summary["trials"],
            "pruned": self.summary["pruned"],
            "val_loss": self.summary["finalists"][0]["val_loss"],
            "discriminative": comparison["verdict"],
            "soup": "used" if self.soup else "not used",
        }

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        if "skipped" in headline:
            return f"skipped: {headline['skipped']}"
        rate, ratio = headline["head_lr"], headline["ratio"]
        ratio = f"{ratio:.2g}" if isinstance(ratio, float) else ratio
        trials = f"{headline['trials']} trials, {headline['pruned']} stopped early"
        return f"learning rate {rate:.2g} for the head, times {ratio} a stage below it; {trials}"
