"""What a registered model has learnt from, held against a data set of now."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.artifacts.dataset import Dataset
from steps.artifacts.models import Classifier
from steps.core.system.storage import table_bytes
from steps.runtime import mlflow_client
from steps.runtime.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from steps.core.audit.known_samples import Recognised
    from steps.core.modalities.contract import Modality

ORIGIN = "goes_on_from"  # in a classifier's meta: name and version of the champion that it began with


def learnt_by(registry: Registry, version: str, own: "pd.DataFrame", scratch: Path) -> "pd.DataFrame | None":
    """Return the samples that a version was trained or chosen on; None where it keeps no record of them.

    One without prints, of before there were any, takes those that the data set's samples (`own`, see
    `with_prints`) have with the same bytes.
    """
    import pandas as pd

    from steps.core.audit.known_samples import KNOWN, learnt

    if (file := registry.fetch_kept_file(version, KNOWN, scratch)) is None:
        return None
    rows = learnt(pd.read_parquet(file))
    here = rows["sha256"].map(dict(zip(own["sha256"], own["print"], strict=True)))
    return rows.assign(print=rows["print"].where(rows["print"].notna(), here))


def recognised(
    kind: "Modality",
    asked: "pd.DataFrame",
    known: "pd.DataFrame",
    own: "pd.DataFrame",
    cfg: Mapping[str, Any],
) -> "Recognised":
    """Find samples of the data set (`asked`: sha256) again among those that a model has learnt from."""
    from steps.core.audit.known_samples import recognise

    prints = dict(zip(own["sha256"], own["print"], strict=True))
    shown = asked[["sha256"]].assign(print=asked["sha256"].map(prints))
    return recognise(kind, shown, known, cfg["near_copy"], cfg["near_copy_margin"])


def unknown_to_both(
    registry: Registry, version: str, dataset: Dataset, cfg: Mapping[str, Any], scratch: Path
) -> "tuple[NDArray[np.bool_], str]":
    """Say which test samples (in the table's order) neither champion nor challenger has learnt from.

    Args:
        registry: Of the champion.
        version: The champion's.
        dataset: Its train and val are what the challenger has learnt from.
        cfg: near_copy, near_copy_margin, print_samples.
        scratch: Where prints, and files of the registry, are kept.

    Returns:
        Mask (test samples,), and how it came about, in words.
    """
    import numpy as np

    from steps.core.audit.known_samples import learnt, with_prints
    from steps.core.modalities.registry import modality

    kind, test = modality(dataset.modality), dataset.part("test")
    own = with_prints(kind, dataset.root, dataset.table, cfg["print_samples"], scratch)
    if (known := learnt_by(registry, version, own, scratch)) is None:
        return np.zeros(len(test), dtype=bool), "the champion keeps no record of what it has learnt from"
    champion, challenger = (recognised(kind, test, rows, own, cfg) for rows in (known, learnt(own)))
    unknown = ~(champion.any | challenger.any)
    said = (
        f"of {len(test)} test samples, {champion.said('the champion')}, {challenger.said('the challenger')}"
    )
    looked_at = test["sha256"].isin(own["sha256"][own["print"].notna()]).to_numpy()
    if champion.printed and not looked_at.all():
        said += f"; of {(~looked_at).sum()} no print is made (promote.print_samples), and they are left out"
        unknown &= looked_at
    return unknown, said


def kept_known(
    dataset: Dataset, teacher: Classifier, cfg: Mapping[str, Any], scratch: Path
) -> dict[str, bytes]:
    """Return the file in which a version says what it has learnt from, the model it goes on from included.

    `teacher` is the fine-tuned model: the candidate itself, or the one that the student has learnt from.
    """
    import pandas as pd

    from steps.core.audit.known_samples import KNOWN, known_rows, with_prints
    from steps.core.modalities.registry import modality

    ancestor = None
    if origin := teacher.meta.get(ORIGIN):
        registry = Registry(origin["name"], mlflow_client.connect())
        if file := registry.fetch_kept_file(origin["version"], KNOWN, scratch):
            ancestor = pd.read_parquet(file)
    about = (modality(dataset.modality), dataset.root, dataset.table)
    own = with_prints(*about, cfg["print_samples"], scratch)
    return {KNOWN: table_bytes(known_rows(own, ancestor))}
