"""Trained models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from steps.core.system.storage import (
    Artifact,
    Blob,
    Headline,
    read_json,
    to_json,
)

if TYPE_CHECKING:
    from torch import Tensor

    from steps.core.backbones.network import Network
    from steps.core.modalities.parts import Preprocessing


SKIPPED = "skipped"  # in the `meta` of a model that a phase has passed on as it was: why
DEPLOYED_FILE = "model.onnx"  # beside a registered classifier: the float32 file, which the gates judge


@dataclass(frozen=True)
class Classifier(Artifact):
    """A trained model: all that is needed to predict, and the curve by which it got there."""

    state: "dict[str, Tensor]" = field(repr=False)
    meta: dict[str, Any]
    """backbone, stages, labels, preprocessing, temperature."""
    history: list[dict[str, Any]]
    metrics: dict[str, float]
    """What was measured on validation."""

    def files(self) -> Mapping[str, Blob]:
        from safetensors.torch import save

        return {
            "model.safetensors": save(self.state),
            "classifier.json": to_json(self.meta),
            "history.json": to_json(self.history),
            "metrics.json": to_json(self.metrics),
        }

    @classmethod
    def read(cls, folder: Path) -> Self:
        from safetensors.torch import load

        facts = read_json(folder, "classifier", "history", "metrics")
        return cls(load((folder / "model.safetensors").read_bytes()), *facts)

    def headline(self) -> Headline:
        if SKIPPED in self.meta:
            return {SKIPPED: self.meta[SKIPPED]}
        return {**self.metrics, "epochs": len(self.history)}

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        if SKIPPED in headline:
            return f"skipped: {headline[SKIPPED]}"
        main = "val_map" if "val_map" in headline else "val_accuracy"
        name, found = main.removeprefix("val_"), f"{headline[main]:.3f}"
        if "val_low" in headline:
            found += f" (95 % interval {headline['val_low']:.3f} to {headline['val_high']:.3f})"
            return f"a first model: {name} {found} on {headline['val_samples']:.0f} validation samples"
        return f"{name} {found} on validation, best of {headline['epochs']} epochs"

    @cached_property
    def preprocessing(self) -> "Preprocessing":
        """How a sample becomes this model's input."""
        from steps.core.modalities.registry import preprocessing_of

        return preprocessing_of(self.meta)

    def passed_on(self, reason: str) -> "Classifier":
        """Return the same model as the output of a phase that trained nothing, with the reason."""
        return Classifier(self.state, {**self.meta, SKIPPED: reason}, [], self.metrics)

    def network(self) -> "Network":
        """Build the network with these weights."""
        from steps.core.backbones.readout import Readout
        from steps.core.modalities.networks import build_network
        from steps.core.modalities.registry import modality_of

        kind, classes = modality_of(self.meta), len(self.meta["labels"])
        reading = Readout.of(self.meta)
        network = build_network(kind, self.meta["backbone"], self.preprocessing, classes, None, reading)
        network.load_state(self.state)
        return network


Candidate = Literal["warm_head", "finetuned", "student", "student_hard_labels", "student_frozen"]
"""Every model of a run that may be put forward: the nouns of the phases, and the student's controls."""


@dataclass(frozen=True)
class Student(Classifier):
    """A classifier that learned from another, the controls beside it, and what it was chosen from.

    How fast and how large the candidates were (`figures`, by name) was timed, and is no part of the digest.
    """

    controls: dict[str, Classifier] = field(repr=False)
    """Of the same architecture: `hard_labels`, and `frozen`, whose body is as it was."""
    choice: dict[str, Any]
    """`chosen`, a name, and `candidates`, a row each."""
    figures: dict[str, dict[str, float]]

    def files(self) -> Mapping[str, Blob]:
        own = {**super().files(), "choice.json": to_json(self.choice)}
        parts = (
            (f"{name}/{file}", blob) for name, c in self.controls.items() for file, blob in c.files().items()
        )
        return {**own, **dict(parts)}

    def undigested_files(self) -> Mapping[str, bytes]:
        return {"figures.json": to_json(self.figures)}

    @classmethod
    def read(cls, folder: Path) -> Self:
        own = Classifier.read(folder)
        controls = {path.name: Classifier.read(path) for path in sorted(folder.iterdir()) if path.is_dir()}
        choice, figures = read_json(folder, "choice", "figures")
        return cls(own.state, own.meta, own.history, own.metrics, controls, choice, figures)

    def headline(self) -> Headline:
        own = super().headline()
        return own if SKIPPED in own else {**own, "student": self.choice["chosen"]}

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """See `Artifact.in_words`."""
        said = super().in_words(headline)
        return said if SKIPPED in headline else f"a smaller model, {headline['student']}: {said}"

    @classmethod
    def none(cls, teacher: Classifier, reason: str) -> Self:
        """Return what stands for a student where none was trained."""
        own = teacher.passed_on(reason)
        return cls(own.state, own.meta, own.history, own.metrics, {}, {"candidates": []}, {})

    def without_controls(self) -> Classifier:
        """Return the classifier without what stands beside it: what production needs."""
        return Classifier(self.state, self.meta, self.history, self.metrics)


def candidates(**made: Classifier) -> dict[str, Classifier]:
    """Return the candidates of `Candidate` by name, from what the phases made, by the nouns.

    What a phase has passed on as it was is no candidate of its own.
    """
    found: dict[str, Classifier] = {}
    for name, model in made.items():
        if SKIPPED in model.meta:
            continue
        if isinstance(model, Student):
            found[name] = model.without_controls()
            found |= {f"{name}_{control}": one for control, one in model.controls.items()}
        else:
            found[name] = model
    return {name: found[name] for name in get_args(Candidate) if name in found}
