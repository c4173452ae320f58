"""What a data set must be like; apart from the checks themselves, whose library is slow to import."""

import unicodedata
from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from steps.core.system.config import Config, Count, Fraction, WatchedFile


class Limits(Config):
    """What a data set must be like."""

    suite: WatchedFile
    """A .json of Great Expectations suites, in which $name is a limit."""
    labels: list[Annotated[str, AfterValidator(partial(unicodedata.normalize, "NFC"))]] | None
    """The class names that may occur; null allows any."""
    min_per_class: Count
    """Samples of every class in a split: fewer stop the pipeline in train, and are a warning elsewhere."""
    max_unreadable: Fraction
    split_tolerance: Fraction
    """How far a split's share of the samples may lie from the one asked for."""
    duplicates: Literal["pass", "warn", "fail"]
    """What a file that occurs twice amounts to."""
    repair: bool
    """Whether copies across splits and samples under two labels are left out, instead of stopping."""
    near_copy: Annotated[float, Field(gt=0.5, le=1)]
    """Likeness of two samples from which they are copies; of images the correlation of aligned detail."""
    near_copy_margin: Annotated[float, Field(gt=0, le=1)]
    """How far from 1 the correlation of copies may be, as a share of what is usual between neighbours."""
    max_leaked: Fraction
    """Share of the held-out files that may have a twin in an earlier split; more stop the pipeline."""
    max_imbalance: Annotated[float, Field(ge=1)]
    """Samples of the largest class over those of the smallest, in train."""
    shortcut_level: Annotated[float, Field(gt=0, lt=1)]
    """Significance level of the shortcut tests."""
    shortcut_gain: Fraction
    """Balanced accuracy that a shortcut must gain to be reported, as a share of what lies above chance."""
    identity_likeness: Annotated[float, Field(ge=0.5, le=1)]
    """Probability that two files with one identity in their names are more alike than two without, from
    which it is reported."""
    permutations: Annotated[int, Field(ge=19)]
    """Shuffles behind the p-value of each test of shortcuts and of identities."""
    max_drift: Annotated[float, Field(ge=0.5, le=1)]
    """AUC of a classifier that tells held-out samples from training ones."""
    max_suspects: Fraction
    """Share of the labels that may look wrong."""
    audit_samples: Count
    """Samples, at most, that are embedded, for probes. Copies, groups and names are looked for among all."""
    probe_samples: Count
    """Samples, at most, that a probe or a shortcut test is trained on."""
