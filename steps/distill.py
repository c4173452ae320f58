"""Train a student that fits a budget on the very views that its teacher sees, beside two controls."""

from typing import Annotated

from steps.artifacts.features import Features
from steps.artifacts.models import Classifier, Student
from steps.core.backbones.settings import freezes_statistics
from steps.core.distillation.settings import StudentRecipe
from steps.core.features.settings import HeadSettings
from steps.runtime import tracking
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch, training_file

NO_CUT = "no stage above the freeze boundary can be left out (distill.candidates)"


class Distill(StudentRecipe):
    """See params.yaml."""

    head: Annotated[HeadSettings, From("warm_up_head")]
    """For heads on features that stay as they are."""
    seed: Annotated[int, From("seed")]


def distill(prefix: Features, finetuned: Classifier, cfg: Distill) -> Annotated[Student, "student"]:
    """Choose the best candidate that fits the budget, and let it learn from the teacher."""
    from steps.core.backbones.precision import uses_bfloat16
    from steps.core.backbones.processes import device
    from steps.core.distillation.students import TrainedModel, train_students
    from steps.core.training.calibration import model_metadata, seed_everything

    listed = cfg.listed(prefix.meta["boundary"], prefix.meta["stages"])
    if reason := prefix.meta.get("skipped") or (None if listed else NO_CUT):
        return Student.none(finetuned, reason)
    seed_everything(cfg.seed)
    half, digests = uses_bfloat16(cfg.precision, device()), (prefix.digest, finetuned.digest)
    file = training_file("distill", *digests, cfg.model_dump_json(), str(half))
    teacher, log = finetuned.network(), tracking.log_epoch
    result = train_students(prefix, teacher, listed, cfg, cfg.head, cfg.seed, scratch(), file, log)
    meta = {**prefix.meta, **result.choice.meta}
    reading = result.choice.network.readout

    def classifier(model: TrainedModel) -> Classifier:
        state, about = model.trained.network.state(), model_metadata(meta, reading, model.chosen)
        return Classifier(state, about, model.trained.records(), model.metrics)

    controls = {name: classifier(model) for name, model in result.controls.items()}
    of_controls = {
        f"{name}_{key}": control.metrics[key]
        for name, control in controls.items()
        for key in ("val_accuracy", "val_loss")
    }
    alone = classifier(result.student)
    metrics = {**alone.metrics, **of_controls, "parameters_of_teacher": result.parameters_of_teacher}
    samples = int((prefix.index_table["split"] == "train").sum())
    metrics |= {
        "bfloat16": float(half),
        "batch_norm_frozen": float(freezes_statistics(cfg.batch_norm, samples)),
    }
    chosen = {"chosen": result.choice.name, "candidates": result.candidates}
    return Student(alone.state, alone.meta, alone.history, metrics, controls, chosen, result.figures)


if __name__ == "__main__":
    main(distill)
