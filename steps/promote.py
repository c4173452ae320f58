"""Register the model, and make it champion only if it passes every gate and beats the present one."""

from typing import Annotated, Literal

from pydantic import Field

from steps.artifacts.dataset import Dataset
from steps.artifacts.decision import Decision
from steps.artifacts.models import Classifier, Student
from steps.artifacts.report import Report
from steps.core.backbones.settings import BackboneConfig
from steps.core.modalities.settings import ModalitySettings
from steps.core.system.config import Config, Count, Fraction, Positive
from steps.runtime import mlflow_client
from steps.runtime.params import From
from steps.runtime.registry import Registry, model_name
from steps.runtime.run import main
from steps.runtime.scratch import scratch


class Levels(Config):
    """How far a file may be from the model that was judged; see `steps.core.promotion.gates.parity`."""

    logits: Positive
    """In standard deviations of the logits."""
    probabilities: Positive
    top1: Fraction
    """Share of the test samples with the same answer, at least."""


class Parity(Config):
    """Limits for each variant that is exported."""

    fp32: Levels
    """For the largest difference of any test sample."""
    int8: Levels
    """For the mean over the test samples."""


class Promote(Config):
    """See params.yaml."""

    name: str | None
    """Of the registered model; null: after the data set, so that strangers are never compared."""
    candidate: Literal["finetuned", "student"]
    """Which model is to be champion."""
    min_accuracy: Fraction
    min_macro_f1: Fraction
    min_macro_auroc: Fraction
    """Of label sets, as the next; a single label is held by its accuracy."""
    min_map: Fraction
    max_ece: Fraction
    champion_margin: Annotated[float, Field(ge=-1, le=1)]
    """Accuracy that the challenger must have gained beyond doubt."""
    class_margin: Fraction
    """Recall that a class may have lost beyond doubt."""
    calibration_margin: Fraction
    """Calibration error by which the challenger may be worse beyond doubt."""
    int8: bool
    """Whether a quantised variant is made, and must agree."""
    calibration_images: Count
    """Training samples that the ranges of the int8 variant are taken from."""
    golden_images: Count
    """Test samples that are kept beside the model with its answers."""
    parity: Parity
    student_margin: Fraction
    """Accuracy that the student may lose for distillation to have paid."""
    timings: Count
    """Answers whose latency is taken."""
    max_latency_ms: Positive | None
    """Of the candidate's float32 file, median of single answers; null: no limit."""
    max_megabytes: Positive | None
    max_looks: Count | None
    """Models that the test set may have been shown to."""
    bootstrap: Annotated[int, Field(ge=100)]
    reference_samples: Annotated[int, From("watch_data.samples")]
    """Training samples that are kept with the model, for drift to be tested against."""
    backbone: Annotated[BackboneConfig, From("backbone")]
    modality: Annotated[ModalitySettings, From("modality")]
    data: Annotated[str, From("ingest_data.path")]
    seed: Annotated[int, From("seed")]

    def model(self) -> str:
        """Return the registered model's name."""
        return model_name(self.name, self.data)


def promote(
    dataset: Dataset, finetuned: Classifier, student: Student, report: Report, cfg: Promote
) -> Annotated[Decision, "decision"]:
    """Judge the candidate by its report, its exported files, and against the champion on the same samples."""
    from steps.core.training.calibration import seeded
    from steps.runtime.promotion_review import hold_hearing

    seeded(cfg.seed)
    registry = Registry(cfg.model(), mlflow_client.connect())
    models = {"finetuned": finetuned, "student": student.alone()}
    candidate = models[cfg.candidate]
    with registry.alone(scratch()):
        if known := registry.decided(candidate.digest, report.digest):
            return known
        ruling, card = hold_hearing(registry, dataset, models, report, cfg.model_dump(), scratch())
        return registry.register(candidate, report, ruling, card)


if __name__ == "__main__":
    main(promote)
