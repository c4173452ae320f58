"""Evaluate every model on the test set, once, and say which of them is put forward."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat

from steps.artifacts.dataset import Dataset
from steps.artifacts.models import Candidate, Classifier, Student, candidates
from steps.artifacts.report import Report
from steps.core.system.config import Config, Count
from steps.runtime import tracking
from steps.runtime.params import From
from steps.runtime.run import main
from steps.runtime.scratch import scratch

if TYPE_CHECKING:
    from steps.core.data.files import Source


class Evaluate(Config):
    """See params.yaml."""

    bootstrap: Annotated[int, Field(ge=100)]
    mistakes: Count
    robustness_samples: Annotated[int, Field(ge=0)]
    """Test samples that are shown again noisy, blurred and the like; 0: none."""
    candidate: Annotated[Candidate | Literal["auto"], From("promote.candidate")]
    same_cost: Annotated[NonNegativeFloat, From("promote.same_cost")]
    seed: Annotated[int, From("seed")]


def evaluate(
    dataset: Dataset,
    warm_head: Classifier,
    finetuned: Classifier,
    student: Student,
    cfg: Evaluate,
) -> Annotated[Report, "report"]:
    """Choose the candidate on validation; measure all models on test, from the files, as production does."""
    from steps.core.data.rows import open_source
    from steps.core.evaluation.baselines import modality_control
    from steps.core.evaluation.evaluation import evaluate_models, test_digest
    from steps.core.modalities.registry import modality
    from steps.core.report.test_results_page import render_evaluation
    from steps.core.training.calibration import seed_everything

    seed_everything(cfg.seed)
    models = candidates(warm_head=warm_head, finetuned=finetuned, student=student)
    source = open_source(dataset.root, scratch(), dataset.table)
    rows, labels = dataset.part("test"), dataset.labels
    sizes = (cfg.bootstrap, cfg.seed, cfg.robustness_samples)
    # before they look: a look that a kill has ended was one
    tracking.record_test_use(rows["sha256"], test_digest(rows), [model.digest for model in models.values()])
    choice = choose(models, dataset, source, cfg)
    chosen, controls = choice["chosen"], [f"student_{name}" for name in student.controls]
    result = evaluate_models(models, rows, labels, source, *sizes, controls, dataset.labelling, chosen)
    result.metrics["candidate"] = choice
    about = (modality(dataset.modality), source, dataset.part("train"), rows, labels)
    if control := modality_control(*about, result.predictions_by_model[chosen], cfg.seed):
        result.metrics["control"] = control
    curves = {name: model.history for name, model in models.items()}
    html = render_evaluation(result, curves, models[chosen], source, cfg.mistakes)
    return Report(result.metrics, result.predictions, html)


def choose(
    models: Mapping[str, Classifier], dataset: Dataset, source: "Source", cfg: Evaluate
) -> dict[str, Any]:
    """Return which model is put forward, by its answers to validation; see `choose_candidate`."""
    from steps.core.evaluation.inference import Predictor, predict_together
    from steps.core.evaluation.optimism import validation_optimism
    from steps.core.strategy.candidates import choose_candidate, cost_of
    from steps.core.tasks.resampling import group_numbers
    from steps.core.tasks.thresholds import predictions_of

    rows = dataset.part("val")
    truth = dataset.labelling.encode(rows["label"], dataset.labels)
    networks = {name: Predictor(model.network(), model.preprocessing) for name, model in models.items()}
    costs = {name: cost_of(*one) for name, one in networks.items()}
    logits, _ = predict_together(networks, source, list(rows["path"]), lambda sample, views: None)
    groups = group_numbers(rows)
    predictions = {
        name: predictions_of(logits[name], truth, model.meta, groups) for name, model in models.items()
    }
    choice = choose_candidate(predictions, costs, cfg.candidate, cfg.same_cost, cfg.bootstrap, cfg.seed)
    return {**choice, "optimism": validation_optimism(predictions, cfg.seed)}


if __name__ == "__main__":
    main(evaluate)
