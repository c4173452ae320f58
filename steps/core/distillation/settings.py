"""Which students are tried, and how the chosen one is trained."""

from typing import Annotated, Literal

from pydantic import Field

from steps.core.system.config import Config, Count, Fraction, Positive
from steps.core.training.recipe import Recipe


class CutCandidate(Config):
    """A student that is the teacher's first stages, with the teacher's weights."""

    keep_stages: Count


class NamedCandidate(Config):
    """A student of an architecture of its own, with its own pretrained weights."""

    name: str
    """Of images any timm model name."""
    weights: str
    """`packaged`, `hub`, or the path of a .safetensors file."""


class StudentRecipe(Recipe):
    """Which student is chosen and how it is trained."""

    candidates: Annotated[list[CutCandidate | NamedCandidate], Field(min_length=1)] | Literal["auto"]
    """What is benchmarked; the best that fits the budget is trained. `auto`: see `listed`."""
    max_latency_ms: Positive | None
    """Greatest median latency of one sample on this machine; null: no limit."""
    max_megabytes: Positive | None
    """Greatest size of the float32 ONNX file; null: no limit."""
    latency_runs: Count
    """Single predictions of every candidate that are timed, in alternation."""
    head_lr: Positive
    ratio: Annotated[float, Field(gt=0, le=1)]
    """Learning rate of a stage relative to that of the next one."""
    temperature: Positive
    """Softens both distributions (Hinton et al. 2015)."""
    alpha: Fraction
    """Weight of the distillation loss; the rest is cross-entropy on the labels."""

    def listed(self, boundary: int, stages: int) -> "list[CutCandidate | NamedCandidate]":
        """Return the candidates for a teacher of `stages` whose prefix up to `boundary` is cached.

        `auto` means its cuts above the boundary, which read the cache; where it has none there is no student.
        """
        if self.candidates != "auto":
            return self.candidates
        return [CutCandidate(keep_stages=keep) for keep in range(boundary + 1, stages)]
