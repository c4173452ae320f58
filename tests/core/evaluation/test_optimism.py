"""What choosing on validation makes it look better by."""

import numpy as np

from steps.core.evaluation.optimism import validation_optimism
from steps.core.tasks.label_sets import LabelSetPredictions
from steps.core.tasks.metrics import SingleLabelPredictions
from tests.core.toys import split_logits


def guesses(models: int, seed: int, groups: int | None = None) -> dict[str, SingleLabelPredictions]:
    """Models that all guess: the best of them on validation was lucky."""
    generator = np.random.default_rng(seed)
    labels = np.arange(60) % 2
    numbers = np.arange(60) // groups if groups else None
    return {
        str(k): SingleLabelPredictions(
            split_logits(labels, 2, generator.random(60) < 0.5, 1.0), labels, 1.0, numbers
        )
        for k in range(models)
    }


def test_the_best_of_many_guesses_looks_better_than_it_is_and_one_model_does_not() -> None:
    gaps: dict[int, list[float]] = {1: [], 12: []}
    for models, found in gaps.items():
        for seed in range(20):
            row = validation_optimism(guesses(models, seed), seed)["metrics"]["accuracy"]
            found.append(row["apparent"] - row["cross_fitted"])
    assert abs(np.mean(gaps[1])) < 1e-9
    assert np.mean(gaps[12]) > 0.05


def test_thresholds_and_temperature_are_chosen_without_the_fold_too() -> None:
    generator = np.random.default_rng(0)
    labels = (generator.random((40, 6)) < 0.3).astype(np.int64)
    logits = 3.0 * labels - 1.5 + generator.normal(0, 1.5, labels.shape)
    model = LabelSetPredictions(logits, labels, 1.0, np.full(6, 0.5))
    found = validation_optimism({"one": model}, 0)
    assert set(found["metrics"]) == {"map", "nll"}
    assert found["metrics"]["nll"]["cross_fitted"] > found["metrics"]["nll"]["apparent"]
    assert found["folds"] == 5


def test_a_group_is_never_in_two_folds_and_too_few_give_no_estimate() -> None:
    assert validation_optimism(guesses(2, 0, groups=20), 0) == {}
    assert validation_optimism(guesses(2, 0, groups=6), 0)["folds"] == 5
