"""Which symmetries of a sample keep its class: whether a mirror image may be trained on as if it were new.

A leaf is the same leaf mirrored, a digit is not. A linear probe that has learnt from samples as
they are is asked about held-out samples as they are and mirrored. Pretrained features hardly change under a
symmetry that the classes have; a probe that answers far worse has seen something that belongs to the class.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from steps.core.data.files import Source
from steps.core.features.embedding import Encoder, embed
from steps.core.features.vectors import correct_fraction, linear_probe
from steps.core.tasks.intervals import interval
from steps.core.tasks.labelling import ONE_LABEL, Labelling
from steps.core.tasks.metrics import Floats

FOLDS = 5


def try_symmetries(
    names: list[str],
    plain: Floats,
    table: pd.DataFrame,
    source: Source,
    encoder: Encoder,
    samples: int,
    largest_loss: float,
    draws: int,
    seed: int,
    scratch: Path,
    labelling: Labelling = ONE_LABEL,
) -> dict[str, Any]:
    """Return of every symmetry whether it is kept, and what the probe loses under it.

    Args:
        names: Of the modality's symmetries.
        plain: What a probe reads of every row of the table as it is (rows, features).
        table: The data set; its rows of train and val are used, the first `samples` of them.
        source: Where the samples are read.
        encoder: The pretrained backbone.
        samples: How many samples are embedded once more for each symmetry.
        largest_loss: Accuracy that may be lost. A symmetry is kept unless more is shown to be lost, by the
            lower end of a 95 % interval over the samples (bootstrap, paired).
        draws: Resamples.
        seed: Of folds and resamples.
        scratch: Where embeddings are kept.
        labelling: How the column `label` is read.
    """
    rows = np.flatnonzero(table["split"] != "test")[:samples]  # sorted by digest: a random part
    part = table.iloc[rows]
    y = labelling.encode(part["label"], sorted(labelling.explode(part["label"]).unique()))
    strata = y if y.ndim == 1 else np.zeros(len(y), dtype=np.int64)
    if len(part) < 2 * FOLDS or len(np.unique(y)) < 2:
        return {name: {"kept": False, "samples": len(part)} for name in names}
    turned = {name: embed(source, part, encoder, scratch, views_under(encoder, name)) for name in names}
    right = answer_in_folds({"": plain[rows], **turned}, y, strata, seed)
    drawn = np.random.default_rng(seed).integers(0, len(part), (draws, len(part)))
    found = {}
    for name in names:
        lost = right[""] - right[name]
        loss = interval(lost[drawn].mean(axis=1), float(lost.mean()), 0.95)
        found[name] = {"kept": loss["low"] <= largest_loss, "loss": loss, "samples": len(part)}
    return found


def views_under(encoder: Encoder, symmetry: str) -> Any:
    """Return the encoder's deterministic view under a symmetry."""
    return encoder.modality.symmetric_views(encoder.preprocessing, symmetry)


def answer_in_folds(
    x: Mapping[str, np.ndarray[Any, Any]], y: np.ndarray[Any, Any], strata: np.ndarray[Any, Any], seed: int
) -> dict[str, Floats]:
    """Return what share of each sample's answers is right (n,), by the name of its embeddings.

    Probes learn from the embeddings of the empty name, and answer to all of those of the samples that are
    held out of their fold.
    """
    wide = {name: z.astype(np.float64) for name, z in x.items()}
    right = {name: np.zeros(len(y)) for name in x}
    for train, held in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(wide[""], strata):
        asked = np.concatenate([z[held] for z in wide.values()])
        answers = np.split(linear_probe(wide[""][train], y[train], asked), len(x))
        for name, found in zip(x, answers, strict=True):
            right[name][held] = correct_fraction(found, y[held])
    return right
