"""Which statistics to normalise with, settled by trial: the literature contradicts itself.

Pretrained statistics keep the input that the backbone knows; those of the data set centre what it sees;
each sample's own make it blind to what all of it shares, such as lighting. A linear probe on the embeddings
of each says which helps.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from steps.core.data.files import Source
from steps.core.features.embedding import SHARD, Encoder, embed
from steps.core.features.vectors import correct_fraction, linear_probe
from steps.core.modalities.parts import Preprocessing
from steps.core.tasks.intervals import interval
from steps.core.tasks.labelling import ONE_LABEL, Labelling
from steps.core.tasks.metrics import Floats

PRETRAINED = "pretrained"


def compare_normalisations(
    preprocessings: dict[str, Preprocessing],
    table: pd.DataFrame,
    source: Source,
    encoder: Encoder,
    samples: int,
    draws: int,
    seed: int,
    scratch: Path,
    labelling: Labelling = ONE_LABEL,
) -> dict[str, Any]:
    """Score each way by a probe trained on train and asked about validation.

    Returns:
        `choice`, the best way if it beats the pretrained statistics beyond a paired 95 % interval, else
        these; `ways`, the accuracy of each with its interval, and what it gains on the pretrained one.
    """
    head = table.head(-(-samples // SHARD) * SHARD)  # whole shards, which the audit has embedded already
    rows = np.flatnonzero(head["split"] != "test")  # sorted by digest: the head is a random part
    part = head.iloc[rows]
    train, val = ((part["split"] == split).to_numpy() for split in ("train", "val"))
    y = labelling.encode(part["label"], sorted(labelling.explode(part["label"]).unique()))
    if not val.any() or part["label"][train].nunique() < 2:
        return {"choice": PRETRAINED, "ways": {}}
    right = {}
    for name, preprocessing in preprocessings.items():
        z = (
            embed(source, head, encoder.with_preprocessing(preprocessing), scratch)[rows]
            if name == PRETRAINED
            else embed(source, part, encoder.with_preprocessing(preprocessing), scratch)
        )
        x: Floats = z.astype(np.float64)
        right[name] = correct_fraction(linear_probe(x[train], y[train], x[val]), y[val])
    drawn = np.random.default_rng(seed).integers(0, int(val.sum()), (draws, int(val.sum())))
    found = {}
    for name, shares in right.items():
        gain = shares - right[PRETRAINED]
        found[name] = {
            "accuracy": interval(shares[drawn].mean(axis=1), float(shares.mean()), 0.95),
            "gain": interval(gain[drawn].mean(axis=1), float(gain.mean()), 0.95),
        }
    better = [name for name, figures in found.items() if figures["gain"]["low"] > 0]
    choice = max(better, key=lambda name: right[name].mean(), default=PRETRAINED)
    return {"choice": choice, "ways": found}
