"""Register the model, and make it champion only if it passes every gate and beats the present one."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, field_validator

from steps.artifacts.dataset import Dataset
from steps.artifacts.decision import Decision
from steps.artifacts.models import Candidate, Classifier, Student, candidates
from steps.artifacts.report import Report
from steps.core.backbones.settings import BackboneConfig
from steps.core.modalities.settings import ModalitySettings
from steps.core.system.config import Config, Count, Fraction, Positive
from steps.runtime import mlflow_client
from steps.runtime.data_identity import data_root, model_name, refuse_other_data
from steps.runtime.params import From
from steps.runtime.registry import Registry
from steps.runtime.registry_state import recorded_state
from steps.runtime.review import ruling_key
from steps.runtime.rollback import finish_rollback
from steps.runtime.run import main
from steps.runtime.scratch import scratch

PLACES = {"name", "data"}  # fields that say where, and are no part of how a model is judged


class ParityLimits(Config):
    """How far a file may be from the model that was judged; see `steps.core.promotion.gates.parity`."""

    logits: Positive
    """In standard deviations of the logits."""
    probabilities: Positive
    top1: Fraction
    """Share of the test samples with the same answer, at least."""


class Parity(Config):
    """Limits for each variant that is exported."""

    fp32: ParityLimits
    """For the largest difference of any test sample."""
    int8: ParityLimits
    """For the mean over the test samples."""


class Promote(Config):
    """See params.yaml."""

    name: str | None
    """Of the registered model; null: after the data set, so that strangers are never compared."""
    candidate: Candidate | Literal["auto"]
    """Which model is put forward; `auto`: see `steps.core.strategy.candidates`. Chosen by `evaluate`."""
    same_cost: NonNegativeFloat
    """Difference of two models' multiplications, relative, up to which they cost the same."""
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
    min_unknown: Count
    """Test images, unknown to champion and challenger, below which they are not compared."""
    print_samples: Count
    """Samples of train and val, and of test, whose prints are kept and compared, at most."""
    near_copy: Annotated[float, From("validate_data.near_copy")]
    near_copy_margin: Annotated[float, From("validate_data.near_copy_margin")]
    on_new_classes: Literal["compare_common", "refuse"]
    """Where the challenger knows classes that the champion does not."""
    on_lost_classes: Literal["compare_common", "refuse"]
    """Where the champion knows classes that the challenger does not."""
    renamed: dict[str, str]
    """Classes that have another name now: the champion's name, the data set's."""
    on_lost_champion: Literal["refuse", "succeed"]
    """Where the champion's files are gone: stop, or let a model that passes the other gates succeed it."""
    same_data: Annotated[float, Field(gt=0, le=1)]
    """Share of the smaller one's files in common, from which two data sets, or two test sets, are one."""
    int8: bool
    """Whether a quantised variant is made too; one that does not agree is withheld."""
    calibration_images: Count
    """Training samples that the ranges of the int8 variant are taken from."""
    agreement_images: Count
    """Validation samples on which the int8 variant has to agree while it is made."""
    golden_images: Count
    """Test samples that are kept beside the model with its answers."""
    parity: Parity
    student_margin: Fraction
    """Accuracy that the student may lose for distillation to have paid."""
    latency_runs: Count
    """Single predictions that are timed."""
    max_latency_ms: Positive | None
    """Of the candidate's float32 file, median of single answers; null: no limit."""
    max_megabytes: Positive | None
    max_test_uses: Count | None
    """Models that may be judged on one test set."""
    bootstrap: Annotated[int, Field(ge=100)]
    reference_samples: Annotated[int, From("watch_data.samples")]
    """Training samples that are kept with the model, for drift to be tested against."""
    backbone: Annotated[BackboneConfig, From("backbone")]
    modality: Annotated[ModalitySettings, From("modality")]
    data: Annotated[str, From("ingest_data.path")]
    seed: Annotated[int, From("seed")]

    @field_validator("name")
    @classmethod
    def can_be_registered(cls, name: str | None) -> str | None:
        """Refuse, before hours of training, what the registry would refuse after them."""
        if name is not None and (not name.strip() or name in (".", "..") or set(name) & set("/:'")):
            raise ValueError("a name without / : and '")
        return name

    def model(self) -> str:
        """Return the registered model's name."""
        return model_name(self.name, self.data)

    def judged_by(self) -> dict[str, Any]:
        """Return all that a ruling depends on."""
        return self.model_dump(exclude=PLACES)


def promote(
    dataset: Dataset,
    warm_head: Classifier,
    finetuned: Classifier,
    student: Student,
    report: Report,
    cfg: Promote,
) -> Annotated[Decision, "decision"]:
    """Judge the candidate by its report, its exported file, and against the champion on the same samples."""
    from steps.core.training.calibration import seed_everything
    from steps.runtime.promotion_review import review_candidate

    seed_everything(cfg.seed)
    registry = Registry(cfg.model(), mlflow_client.connect(), data_root(cfg.data))
    models = candidates(warm_head=warm_head, finetuned=finetuned, student=student)
    candidate = models[report.candidate]
    with registry.exclusive(scratch()), recorded_state(registry, scratch()):
        finish_rollback(registry)
        refuse_other_data(registry, dataset.table, cfg.same_data, scratch())
        met = registry.opponent(candidate.digest)
        key = ruling_key(candidate.digest, report.digest, cfg.judged_by(), met)
        if known := registry.find_decision(key):
            return known
        review, card = review_candidate(
            registry, dataset, models, report, student, cfg.model_dump(), scratch()
        )
        return registry.register(candidate, report, replace(review, key=key), card)


if __name__ == "__main__":
    main(promote)
