"""Have the inputs changed since the champion was trained? Two-sample tests against what was kept of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save
from scipy.stats import PermutationMethod, chi2_contingency

from steps.core.audit.shortcuts import shortcut_test
from steps.core.data.rows import open_source
from steps.core.features.embedding import Encoder, embed

REFERENCE_FILE = "reference.safetensors"
TESTS = 2  # that share the false-alarm rate (Bonferroni)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """What is kept of the data that a model was trained on."""

    z: Floats
    """Pooled vectors of the pretrained backbone (samples, features), of a bounded sample of train."""
    predicted: dict[str, int]
    """The model's answers to the test samples, by label: to those of train it would answer too well."""
    backbone: dict[str, Any]

    def bytes(self) -> bytes:
        """Write as one safetensors file."""
        about = {"predicted": json.dumps(self.predicted), "backbone": json.dumps(self.backbone)}
        return save({"z": self.z.astype(np.float16)}, metadata=about)

    @classmethod
    def read(cls, path: Path) -> "Reference":
        """Read what `bytes` wrote."""
        with safe_open(path, framework="np") as file:
            about = file.metadata()
            z = file.get_tensor("z").astype(np.float32)
        return cls(z, json.loads(about["predicted"]), json.loads(about["backbone"]))


def embed_rows(
    root: str, table: pd.DataFrame, wanted: NDArray[np.bool_], encoder: Encoder, scratch: Path
) -> Floats:
    """Return z of the wanted rows; the table is embedded up to the last one, as the audit has done before."""
    last = int(np.flatnonzero(wanted)[-1]) + 1
    z = embed(open_source(root, scratch, table), table.head(last), encoder, scratch)
    return z[wanted[:last]].astype(np.float32)


def first_rows(mask: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Keep the first `count` true values; in a table ordered by content hash that is a random sample."""
    kept: NDArray[np.bool_] = mask & (np.cumsum(mask) <= count)
    return kept


def build_drift_reference(
    root: str,
    table: pd.DataFrame,
    answers: Sequence[str],
    encoder: Encoder,
    samples: int,
    scratch: Path,
) -> dict[str, bytes]:
    """Return the file that is kept with a model for drift to be tested against.

    Args:
        root: Where the files are.
        table: The data set.
        answers: The model's, to the test samples.
        encoder: The pretrained backbone, by which z is made.
        samples: Training samples whose z is kept, at most.
        scratch: Where embeddings are kept.
    """
    train = first_rows((table["split"] == "train").to_numpy(), samples)
    counts = pd.Series(list(answers)).value_counts().sort_index()
    predicted = {str(label): int(n) for label, n in counts.items()}
    z = embed_rows(root, table, train, encoder, scratch)
    return {REFERENCE_FILE: Reference(z, predicted, encoder.describe()).bytes()}


def run_drift_tests(
    reference: Reference, z: Floats, answers: Sequence[str], level: float, permutations: int, seed: int
) -> list[dict[str, Any]]:
    """Hold a two-sample test on the vectors and one on the predicted labels.

    The first is a classifier two-sample test (Lopez-Paz and Oquab 2017): ridge regression that tells old
    from new, its accuracy on held-out folds against that for shuffled labels. The second is Pearson's
    chi-square of the answers' table, its p-value by permutation. Together they raise a false alarm with
    a probability of at most `level`.
    """
    old_new = np.repeat(np.arange(2), [len(reference.z), len(z)])
    both = np.concatenate([reference.z, z]).astype(np.float64)
    told_apart = shortcut_test(both, old_new.astype(np.int64), permutations, seed)["p"]
    by_z = 1.0 if told_apart is None else told_apart  # None: fewer samples than folds
    by_label = predicted_label_p_value(reference.predicted, answers, permutations, seed)
    rows = (("z", by_z, len(z)), ("predicted labels", by_label, len(answers)))
    return [
        {"test": name, "p": p, "limit": level / TESTS, "samples": n, "drift": bool(p <= level / TESTS)}
        for name, p, n in rows
    ]


def predicted_label_p_value(
    old: Mapping[str, int], answers: Sequence[str], permutations: int, seed: int
) -> float:
    """Return the p-value of "the answers are distributed as before"."""
    new = pd.Series(list(answers)).value_counts()
    labels = sorted({*old, *new.index})
    table = np.array([[counts.get(label, 0) for label in labels] for counts in (old, new)])
    if len(labels) < 2:
        return 1.0
    method = PermutationMethod(n_resamples=permutations, rng=np.random.default_rng(seed))
    return float(chi2_contingency(table, correction=False, method=method).pvalue)
