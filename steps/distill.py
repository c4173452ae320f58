"""Train a smaller student on the very views that its teacher sees, beside a hard-label control."""

from typing import Annotated

from steps import tracking
from steps.artifacts import Classifier, Features
from steps.config import From
from steps.core.config import StudentRecipe
from steps.run import main
from steps.scratch import scratch, training_file


class Distill(StudentRecipe):
    """See params.yaml."""

    seed: Annotated[int, From("seed")]


def distill(features: Features, finetuned: Classifier, cfg: Distill) -> Annotated[Classifier, "student"]:
    """Cut the teacher after `keep_stages`, put a new head on it, and let it learn from the teacher."""
    from steps.core.distillation import grow_students
    from steps.core.finish import describe, seeded

    seeded(cfg.seed)
    file = training_file("distill", features.digest, finetuned.digest, cfg.model_dump_json())
    teacher, log = finetuned.network(), tracking.log_epoch
    grown = grow_students(features, teacher, cfg, cfg.seed, scratch(), file, log)
    metrics = {
        **grown.metrics,
        "hard_label_val_accuracy": grown.control_metrics["val_accuracy"],
        "hard_label_val_loss": grown.control_metrics["val_loss"],
        "parameters_of_teacher": grown.parameters_of_teacher,
    }
    meta = describe(features.meta, cfg.keep_stages, grown.chosen)
    return Classifier(grown.student.network.state(), meta, grown.student.records(), metrics)


if __name__ == "__main__":
    main(distill)
