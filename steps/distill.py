"""Train a student that fits a budget on the very views that its teacher sees, beside two controls."""

from typing import Annotated

from steps.artifacts.features import Features
from steps.artifacts.models import Classifier, Student
from steps.core.distillation.settings import StudentRecipe
from steps.core.training.recipe import HeadRecipe
from steps.runtime import tracking
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch, training_file


class Distill(StudentRecipe):
    """See params.yaml."""

    head: Annotated[HeadRecipe, From("warm_up_head")]
    """For heads on features that stay as they are."""
    seed: Annotated[int, From("seed")]


def distill(features: Features, finetuned: Classifier, cfg: Distill) -> Annotated[Student, "student"]:
    """Choose the best candidate that fits the budget, and let it learn from the teacher."""
    from steps.core.backbones.precision import halves
    from steps.core.backbones.processes import device
    from steps.core.distillation.students import Taught, grow_students
    from steps.core.training.calibration import describe, seeded

    seeded(cfg.seed)
    half, digests = halves(cfg.precision, device()), (features.digest, finetuned.digest)
    file = training_file("distill", *digests, cfg.model_dump_json(), str(half))
    teacher, log = finetuned.network(), tracking.log_epoch
    grown = grow_students(features, teacher, cfg, cfg.head, cfg.seed, scratch(), file, log)
    meta = {**features.meta, **grown.choice.meta}
    stages = len(grown.choice.network.stages)

    def classifier(taught: Taught) -> Classifier:
        state, about = taught.trained.network.state(), describe(meta, stages, taught.chosen)
        return Classifier(state, about, taught.trained.records(), taught.metrics)

    controls = {name: classifier(taught) for name, taught in grown.controls.items()}
    of_controls = {
        f"{name}_{key}": control.metrics[key]
        for name, control in controls.items()
        for key in ("val_accuracy", "val_loss")
    }
    alone = classifier(grown.student)
    metrics = {**alone.metrics, **of_controls, "parameters_of_teacher": grown.parameters_of_teacher}
    metrics["bfloat16"] = float(half)
    chosen = {"chosen": grown.choice.name, "candidates": grown.candidates}
    return Student(alone.state, alone.meta, alone.history, metrics, controls, chosen, grown.figures)


if __name__ == "__main__":
    main(distill)
