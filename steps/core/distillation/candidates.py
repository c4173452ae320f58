"""What may become the student: the teacher cut after some stage, or a smaller network of its own.

A cut needs no weights but the teacher's and can read the cache where it ends above the freeze boundary.
A network of its own starts from its own pretrained weights and from the samples. Either sees what the teacher
sees: the same views, preprocessed the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steps.core.backbones.network import Network
from steps.core.backbones.processes import on_device
from steps.core.distillation.settings import CutCandidate, NamedCandidate
from steps.core.modalities.networks import build_network
from steps.core.modalities.parts import Preprocessing
from steps.core.modalities.registry import modality_of, preprocessing_of
from steps.core.system.errors import BackboneError
from steps.core.system.storage import file_sha256


@dataclass(frozen=True)
class Candidate:
    """A network under a head of zeros."""

    name: str
    network: Network
    start: int
    """The boundary at which it can be entered: the cache's, or 0 for the samples."""
    meta: dict[str, Any]
    """What the cache's `meta` says of it differently: backbone, weights_sha256."""

    @property
    def parameters(self) -> int:
        """Count parameters."""
        return parameter_count(self.network)


def build_candidates(
    asked: Sequence[CutCandidate | NamedCandidate], teacher: Network, meta: dict[str, Any], scratch: Path
) -> list[Candidate]:
    """Build every candidate, in the order of params.yaml.

    Raises:
        BackboneError: One has as many stages as the teacher, or its weights cannot be had.
    """
    kind, preprocessing = modality_of(meta), preprocessing_of(meta)
    found = []
    for one in asked:
        if isinstance(one, CutCandidate):
            network = on_device(cut_teacher(teacher, one.keep_stages, preprocessing))
            start = meta["boundary"] if meta["boundary"] < one.keep_stages else 0
            found.append(Candidate(f"first {one.keep_stages} stages", network, start, {}))
            continue
        weights = kind.find_weights(one.name, one.weights, scratch, "distill.candidates.weights")
        network = on_device(build_network(kind, one.name, preprocessing, teacher.head.out_features, weights))
        own = {"backbone": one.name, "weights_sha256": file_sha256(weights)}
        found.append(Candidate(one.name, network, 0, own))
    return found


def cut_teacher(teacher: Network, keep: int, preprocessing: Preprocessing) -> Network:
    """Copy the teacher's first `keep` stages under a head of zeros.

    Raises:
        BackboneError: There would be nothing left out.
    """
    if keep >= len(teacher.stages):
        raise BackboneError(
            f"distill.candidates: found keep_stages {keep}, expected 1 to {len(teacher.stages) - 1}, "
            "fewer stages than the teacher has"
        )
    return teacher.cut(keep, preprocessing.batch([preprocessing.example()], teacher.device))


def parameter_count(network: Network) -> int:
    """Count parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
