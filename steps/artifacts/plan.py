"""What is trained, and what the head reads."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from steps.core.system.storage import Headline, JsonArtifact

if TYPE_CHECKING:
    from steps.core.backbones.readout import Readout


@dataclass(frozen=True)
class Plan(JsonArtifact):
    """The strategy, and the measurements that it was chosen by."""

    readout: dict[str, Any]
    """Which stages the head reads: first, keep, deviations; see `steps.core.backbones.readout`."""
    boundary: int
    """Stages below it stay frozen in every training."""
    skipped: str | None
    """Why no stage is trained; null where stages are."""
    predicted: dict[str, Any]
    """What the pretrained features are expected to give on unseen samples: metric, value, low, high, samples;
    empty where nothing was compared."""
    rows: list[dict[str, Any]]
    """What heads on single stages and on several gave, the best first; see `compare_readouts`."""
    described: str
    """The readout in words."""

    file: ClassVar[str] = "plan.json"

    @property
    def reading(self) -> "Readout":
        """What the head reads."""
        from steps.core.backbones.readout import Readout

        return Readout.of({"readout": self.readout})

    def headline(self) -> Headline:
        found = {"reads": self.described, "compared": len(self.rows), "keep": self.readout["keep"]}
        expected = {key: self.predicted[key] for key in ("metric", "value", "low", "high") if self.predicted}
        return {
            **found,
            **expected,
            **({"skipped": self.skipped} if self.skipped else {"boundary": self.boundary}),
        }

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        said = f"the head reads {headline['reads']}"
        if "value" in headline:
            expected = f"{headline['metric']} {headline['value']:.3f}"
            said += f", chosen from {headline['compared']} by cross-validation: {expected} expected"
        if "skipped" in headline:
            return f"{said}; no stage is trained: {headline['skipped']}"
        first, last = int(headline["boundary"]) + 1, int(headline["keep"])
        if first > last:
            return f"{said}; then it is trained on augmented views"
        trained = f"stage {last} is" if first == last else f"stages {first} to {last} are"
        return f"{said}; then {trained} trained"
