"""What the learning-rate search may try; apart from the search, whose libraries are slow to import."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from steps.core.system.config import Config, Count, Positive

When = Literal["auto", "always", "never"]
"""Whether rates are searched; see `skip_reason`."""


def skip_reason(when: When, samples: int, least: int) -> str | None:
    """Return why no rates are searched, or None where they are.

    Two trainings that disagree on a share d of n validation samples differ in accuracy by chance with a
    standard error of up to sqrt(d / n): with a twentieth, 1.3 points at 300 samples and 2.9 at 60. A gain
    below that is chosen by chance.

    Args:
        when: As params.yaml has it.
        samples: Of validation.
        least: From which on `auto` searches.
    """
    if when == "never":
        return "search_lr_ratio.when is never"
    if when == "auto" and samples < least:
        return (
            f"{samples} validation samples cannot tell good rates from better ones, from {least} on they are "
            "searched (search_lr_ratio.min_validation)"
        )
    return None


Rate = Positive | Literal["auto"]
"""A learning rate; auto: what suits the kind of network, see `steps.core.strategy.usual_rates`."""
SPAN = 4.0  # times the usual rate, to either side, that `auto` searches


class AskedSpace(Config):
    """What is searched, and for how long, as params.yaml has it."""

    trials: Count
    """Trials of the search, pruned ones included, whatever number of restarts they take."""
    uniform_trials: Count
    """Trials of the control."""
    startup_trials: Count
    """Trials drawn at random before the sampler models the loss."""
    head_lr_low: Rate
    head_lr_high: Rate
    ratio_low: Positive
    ratio_high: Positive
    per_boundary: bool
    """Whether each boundary between stages has a ratio of its own, instead of one for all."""
    weight_decay: Annotated[list[Positive], Field(min_length=2, max_length=2)] | None
    """Least and greatest value that is tried; null: the recipe's, not searched."""
    prune_after: Count
    """Epochs of a trial before it may be stopped."""
    keep_fraction: Annotated[float, Field(gt=0, le=1)]
    """Fraction of all trials that have come as far that one must be among to go on; the best always does."""
    finalists: Count
    """Best trials of the search that are repeated, beside the best of the control."""
    repeats: Count
    """Trainings of each finalist, each with a seed of its own."""
    comparison_repeats: Annotated[int, Field(ge=0)]
    """Fresh trainings of the best falling and the best uniform rates, by which they are compared; 0: none."""
    worker_timeout: Positive
    """Seconds without an epoch after which a trial of another machine is taken over."""

    @model_validator(mode="after")
    def ordered(self) -> "AskedSpace":
        """Refuse empty ranges, and ratios above 1."""
        low, high = self.head_lr_low, self.head_lr_high
        if isinstance(low, float) and isinstance(high, float) and low >= high:
            raise ValueError("head_lr_low below head_lr_high")
        if isinstance(low, float) != isinstance(high, float):
            raise ValueError("head_lr_low and head_lr_high both auto, or both numbers")
        if not self.ratio_low < self.ratio_high <= 1:
            raise ValueError("ratio_low < ratio_high <= 1: an earlier stage may not learn faster")
        if self.weight_decay and self.weight_decay[0] >= self.weight_decay[1]:
            raise ValueError("weight_decay low below high")
        if 0 < self.comparison_repeats < 5:
            raise ValueError("comparison_repeats 0, or at least 5: fewer seeds show no difference")
        return self

    def resolved(self, usual: float) -> "SearchSpace":
        """Return the space around a network's usual rate, where the range is `auto`."""
        own = {name: getattr(self, name) for name in AskedSpace.model_fields}
        if self.head_lr_low == "auto":
            own |= {"head_lr_low": usual / SPAN, "head_lr_high": usual * SPAN}
        return SearchSpace(**own)


class SearchSpace(AskedSpace):
    """What is searched, every number known."""

    head_lr_low: Positive
    head_lr_high: Positive
