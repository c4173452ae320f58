"""Labels for many samples by an exported file: part by part, so that a kill loses one part at most.

Every core reads, decodes and answers samples of its own, with one thread each inside ONNX Runtime: that
leaves nothing idle, and the answers do not depend on how many cores there are.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd
from numpy.typing import NDArray

from steps.core.data.files import Folder, Source, map_in_threads
from steps.core.data.label_columns import named
from steps.core.data.manifests import locate, row_path, table_root
from steps.core.data.rows import open_source
from steps.core.data.tables import parse_table
from steps.core.modalities.contract import Modality
from steps.core.modalities.registry import modality_of, preprocessing_of
from steps.core.system.errors import DataError
from steps.core.system.progress import progress
from steps.core.system.storage import table_bytes, write_file
from steps.core.tasks.thresholds import answers_of, predictions_of

AHEAD = 64  # answers that wait for their turn, at most


@dataclass(frozen=True)
class DeployedModel:
    """An exported file, and what its answers mean."""

    file: bytes
    meta: Mapping[str, Any]
    """Of the classifier that it was made from: modality, preprocessing, labels, temperature, thresholds."""
    part_samples: int
    """Samples that are answered between two saves."""

    def session(self) -> ort.InferenceSession:
        """Load the file for one thread a call; calls may be made from several threads at once."""
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return ort.InferenceSession(self.file, options, providers=["CPUExecutionProvider"])


def list_unlabelled(root: str, cache: Path, kind: Modality) -> tuple[str, list[str], list[str]]:
    """Return the source's address (see `open_source`), the samples' paths, and what changes when they do.

    Args:
        root: A folder with samples at any depth, a table with a column of their paths (see `locate`) or whose
            rows are the samples, or an fsspec URL of either.
        cache: Where copies of remote files are kept.
        kind: What a sample is.

    Raises:
        DataError: Nothing there is a sample.
    """
    folder = Folder(root, cache)
    if not folder.is_file():
        paths = [path for path in folder.list() if path.lower().endswith(kind.endings)]
        if not kind.endings or not paths:
            expected = ", ".join(kind.endings) or "a .csv or .parquet file"
            raise DataError(f"{root} holds no samples: expected {expected}")
        return root, paths, [folder.stamp(path) for path in paths]
    table, name = parse_table(folder), folder.url.rpartition("/")[2]
    stamps = [hashlib.sha256(folder.read_root()).hexdigest()]
    column = named(table, "path")
    if column is None and (columns := kind.columns_of(table)):
        paths = [row_path(name, row) for row in range(len(table))]
        return table_root(folder.url, columns), paths, stamps
    above = folder.parent(cache)
    column, found = locate(table, root, above, kind, column)
    if table[column].isna().any():
        raise DataError(f"{root} has a row without a path: fill it in, or leave the row out")
    return above.url, [str(path) for path in found], stamps


def predict_samples(
    model: DeployedModel, root: str, paths: Sequence[str], stamps: Sequence[str], scratch: Path
) -> pd.DataFrame:
    """Answer every sample; what an earlier, killed call has saved is read.

    Args:
        model: What answers.
        root: See `list_unlabelled`, as of `paths` and `stamps`.
        paths: Of the samples.
        stamps: What changes when they do.
        scratch: Where finished parts are kept.

    Returns:
        Columns path, error (None, or why the sample cannot be read) and logits (classes,), None on an error.
    """
    folder = parts_folder(model, root, paths, stamps, scratch)
    source, session = open_source(root, scratch), model.session()
    firsts = range(0, len(paths), model.part_samples)
    parts = []
    with progress("predicting", len(paths), "sample") as advance:
        for first in firsts:
            place = folder / f"{first:09d}.parquet"
            part = paths[first : first + model.part_samples]
            if not place.is_file():
                write_file(place, table_bytes(answer_part(model, session, source, part)))
            parts.append(pd.read_parquet(place))
            advance(len(part))
    return pd.concat(parts, ignore_index=True)


def parts_folder(
    model: DeployedModel, root: str, paths: Sequence[str], stamps: Sequence[str], scratch: Path
) -> Path:
    """Return where the parts are saved: of this model, these samples and their present content alone."""
    about = [hashlib.sha256(model.file).hexdigest(), model.part_samples, root, list(paths), list(stamps)]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]
    return scratch / "batch" / key


def answer_part(
    model: DeployedModel, session: ort.InferenceSession, source: Source, paths: Sequence[str]
) -> pd.DataFrame:
    """Answer some samples; see `predict_samples` for the columns."""
    preprocessing = preprocessing_of(model.meta)
    graph = modality_of(model.meta).input_graph(preprocessing)

    def answer(path: str) -> tuple[str | None, NDArray[np.float32] | None]:
        try:
            sample = graph.encode(preprocessing.decode(source.read(path)))
        except DataError as error:
            return str(error), None
        (logits,) = session.run(["logits"], {graph.name: sample[None]})
        return None, logits[0]

    errors, logits = zip(*map_in_threads(answer, paths, AHEAD), strict=True)
    return pd.DataFrame({"path": list(paths), "error": list(errors), "logits": list(logits)})


def as_answers(model: DeployedModel, found: pd.DataFrame, abstain_below: float) -> pd.DataFrame:
    """Return what is written for whoever asked: one row per sample that could be read.

    Args:
        model: What answered.
        found: From `predict_samples`.
        abstain_below: Calibrated probability of the answer below which a person should look.

    Returns:
        Columns path, label (of label sets the labels, joined), confidence, abstained, `p CLASS` per class.
    """
    read = found[found["error"].isna()]
    names, shape = model.meta["labels"], (len(read), len(model.meta["labels"]))
    logits = np.stack(list(read["logits"])).astype(np.float64) if len(read) else np.empty(shape)
    unknown = np.zeros(shape if "thresholds" in model.meta else shape[:1], dtype=np.int64)
    predictions = predictions_of(logits, unknown, model.meta)
    confidence = predictions.confidence if len(read) else np.empty(0)
    columns = {
        "path": list(read["path"]),
        "label": answers_of(logits, model.meta) if len(read) else [],
        "confidence": confidence.astype(np.float32),
        "abstained": confidence < abstain_below,
    }
    each = {f"p {name}": predictions.probabilities[:, n].astype(np.float32) for n, name in enumerate(names)}
    return pd.DataFrame({**columns, **each})
