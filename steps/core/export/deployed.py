"""An exported classifier as it is deployed: samples as they are stored in, answers in words out."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnxruntime as ort

from steps.core.export.parity import open_session, run
from steps.core.modalities.contract import Modality
from steps.core.modalities.parts import InputGraph, Preprocessing
from steps.core.modalities.registry import modality_of, preprocessing_of
from steps.core.tasks.thresholds import format_prediction


@dataclass(frozen=True)
class DeployedClassifier:
    """A loaded file, and the metadata of the classifier that it was made from."""

    session: ort.InferenceSession
    meta: Mapping[str, Any]

    @classmethod
    def open(cls, content: bytes, meta: Mapping[str, Any]) -> "DeployedClassifier":
        """Load an ONNX file on the CPU."""
        return cls(open_session(content), meta)

    @cached_property
    def modality(self) -> Modality:
        """What its samples are."""
        return modality_of(self.meta)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How a sample is decoded."""
        return preprocessing_of(self.meta)

    @cached_property
    def graph(self) -> InputGraph:
        """What stands before the network in the file."""
        return self.modality.input_graph(self.preprocessing)

    def answer(self, data: bytes) -> dict[str, Any]:
        """Return label or labels, and calibrated probabilities, of one sample.

        Raises:
            DataError: The bytes are no such sample.
        """
        sample = self.graph.encode(self.preprocessing.decode(data))
        logits, _ = run(self.session, [sample])
        return format_prediction(logits[0], dict(self.meta))
