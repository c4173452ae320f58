"""A ruling of the promotion gates, and the key by which it is found again."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steps.core.system.storage import to_json

NOBODY = "nobody"


@dataclass(frozen=True)
class Review:
    """What the gates came to, and against which champion."""

    verdict: str
    gates: list[dict[str, Any]]
    champion: str | None
    """The version that was met; None where there was none."""
    deployment: list[dict[str, Any]] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """What is kept beside the model: its exported files."""
    replaces: str | None = None
    """The version that was champion then: the one that was met, or the very model that is judged again."""
    candidate: Mapping[str, Any] = field(default_factory=dict)
    """Which model was put forward and why; see `steps.core.strategy.candidates`."""
    key: str = ""
    """See `ruling_key`."""


def ruling_key(model: str, report: str, config: Mapping[str, Any], met: str | None) -> str:
    """Name all that a ruling follows from: model and report by digest, the config, the champion met.

    Where any of them is another, an earlier ruling is no answer.
    """
    depends = {"model": model, "report": report, "config": config, "met": met or NOBODY}
    return hashlib.sha256(to_json(depends)).hexdigest()
