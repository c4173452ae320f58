"""What the learning-rate search may try; apart from the search, whose libraries are slow to import."""

from pydantic import model_validator

from steps.core.config import Config, Count, Positive


class Space(Config):
    """What is searched, and for how long."""

    trials: Count
    """Trials of the search, pruned ones included, whatever number of restarts they take."""
    uniform_trials: Count
    """Trials of the control."""
    startup_trials: Count
    """Trials drawn at random before the sampler models the loss and the pruner may act."""
    head_lr_low: Positive
    head_lr_high: Positive
    ratio_low: Positive
    ratio_high: Positive

    @model_validator(mode="after")
    def ordered(self) -> "Space":
        """Refuse empty ranges, and ratios above 1."""
        if self.head_lr_low >= self.head_lr_high:
            raise ValueError("head_lr_low below head_lr_high")
        if not self.ratio_low < self.ratio_high <= 1:
            raise ValueError("ratio_low < ratio_high <= 1: an earlier stage may not learn faster")
        return self
