"""The gates of promotion. Every gate is held and listed, also after one has failed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from steps.core.evaluation import Model
from steps.core.files import Folder
from steps.core.metrics import Outcome, compare
from steps.core.predict import predict_paths

LEVEL = 0.90  # a two-sided 90 % interval's lower end is a one-sided 95 % bound


class Data(Protocol):
    """The data set, as an artifact holds it."""

    @property
    def root(self) -> str:
        """Where the files are."""
        ...

    @property
    def labels(self) -> list[str]:
        """The class names."""
        ...

    def part(self, split: str) -> pd.DataFrame:
        """Return the rows of one split."""
        ...


def hold_gates(metrics: Mapping[str, Any], limits: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compare the metrics of the test set with the limits in the params."""
    return [
        gate("accuracy", metrics["accuracy"], "at least", limits["min_accuracy"]),
        gate("macro_f1", metrics["macro_f1"], "at least", limits["min_macro_f1"]),
        gate("ece", metrics["ece"], "at most", limits["max_ece"]),
    ]


def gate(name: str, found: Mapping[str, float], sense: str, limit: float) -> dict[str, Any]:
    """Return a gate with its evidence."""
    passed = found["value"] >= limit if sense == "at least" else found["value"] <= limit
    return {"gate": name, "found": dict(found), "sense": sense, "limit": limit, "passed": passed}


def meet_champion(
    champion: Model, challenger: Model, data: Data, cfg: Mapping[str, Any], scratch: Path
) -> dict[str, Any]:
    """Compare challenger and champion on the same test images, paired.

    The challenger passes when the lower one-sided 95 % bound of the accuracy it gains is above
    `champion_margin`. One with other labels than the champion's cannot be compared, and fails.
    """
    if champion.meta["labels"] != challenger.meta["labels"]:
        nothing = {"value": 0.0, "low": 0.0, "high": 0.0}
        note = f"champion knows {champion.meta['labels']}: set promote.name to register another model"
        row = {"gate": "beats champion", "found": nothing, "sense": "same labels", "limit": 0.0}
        return {**row, "passed": False, "note": note}
    rows = data.part("test")
    truth = rows["label"].map(data.labels.index).to_numpy(dtype=np.int64)
    folder = Folder(data.root, scratch)
    old, new = (
        Outcome(
            predict_paths(model.network(), model.look, folder, list(rows["path"])),
            truth,
            model.meta["temperature"],
        )
        for model in (champion, challenger)
    )
    gained = compare(new, old, cfg["bootstrap"], cfg["seed"], LEVEL)["accuracy"]
    return {
        "gate": "beats champion",
        "found": gained,
        "sense": "low above",
        "limit": cfg["champion_margin"],
        "passed": gained["low"] > cfg["champion_margin"],
    }
