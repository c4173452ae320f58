"""Evaluate every model on the test set, once."""

from typing import Annotated

from pydantic import Field

from steps.artifacts.dataset import Dataset
from steps.artifacts.models import Classifier, Student
from steps.artifacts.report import Report
from steps.core.system.config import Config, Count
from steps.runtime import tracking
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch


class Evaluate(Config):
    """See params.yaml."""

    bootstrap: Annotated[int, Field(ge=100)]
    mistakes: Count
    robustness_samples: Annotated[int, Field(ge=0)]
    """Test samples that are shown again noisy, blurred and the like; 0: none."""
    seed: Annotated[int, From("seed")]


def evaluate(
    dataset: Dataset,
    warm_head: Classifier,
    finetuned: Classifier,
    student: Student,
    cfg: Evaluate,
) -> Annotated[Report, "report"]:
    """Measure all three models on the test samples, from the files, as production would see them."""
    from steps.core.data.rows import open_source
    from steps.core.evaluation.evaluation import evaluate_models, test_digest
    from steps.core.report.test_results_page import render_evaluation
    from steps.core.training.calibration import seed_everything

    seed_everything(cfg.seed)
    models = {"warm_head": warm_head, "finetuned": finetuned, "student": student}
    source = open_source(dataset.root, scratch(), dataset.table)
    rows, labels = dataset.part("test"), dataset.labels
    sizes = (cfg.bootstrap, cfg.seed, cfg.robustness_samples)
    # before they look: a look that a kill has ended was one
    seen = (warm_head, finetuned, student.without_controls(), *student.controls.values())
    tracking.record_test_use(rows["sha256"], test_digest(rows), [model.digest for model in seen])
    result = evaluate_models(models, rows, labels, source, *sizes, student.controls, dataset.labelling)
    curves = {name: model.history for name, model in models.items()}
    html = render_evaluation(result, curves, finetuned, source, cfg.mistakes)
    return Report(result.metrics, result.predictions, html)


if __name__ == "__main__":
    main(evaluate)
