"""Which model is put forward: best on validation, cheaper among equals, the same on every machine."""

import numpy as np
import pytest

from steps.core.strategy.candidates import Cost, choose_candidate, cost_of
from steps.core.tasks.label_sets import LabelSetPredictions
from steps.core.tasks.metrics import SingleLabelPredictions
from tests.core.toys import PREPROCESSING, build

LABELS = np.arange(200) % 4
LARGE, SMALL = Cost(1000, 40), Cost(200, 10)


def predictions(right: int, sure: float = 4.0, wrong_at: int = 0) -> SingleLabelPredictions:
    """Answer `right` of 200 samples rightly; the wrong ones begin at a place."""
    answers = LABELS.copy()
    places = (wrong_at + np.arange(200 - right)) % 200
    answers[places] = (answers[places] + 1) % 4
    return SingleLabelPredictions(np.eye(4)[answers] * sure, LABELS, 1.0)


def choose(models: dict[str, tuple[SingleLabelPredictions, Cost]], wanted: str = "auto") -> dict[str, object]:
    found = {name: one for name, (one, _) in models.items()}
    costs = {name: cost for name, (_, cost) in models.items()}
    return choose_candidate(found, costs, wanted, 0.1, 500, 0)


def test_a_clearly_better_model_is_chosen_at_any_cost() -> None:
    choice = choose({"warm_head": (predictions(150), SMALL), "finetuned": (predictions(190), LARGE)})
    assert choice["chosen"] == "finetuned"
    assert choice["reason"] == "validation accuracy 0.950 of 200 samples, the best of 2 models"


def test_of_equals_the_cheaper_one_is_chosen() -> None:
    models = {"finetuned": (predictions(190), LARGE), "student": (predictions(189, wrong_at=5), SMALL)}
    choice = choose(models)
    assert choice["chosen"] == "student"
    assert "within one standard error of the best, finetuned (0.005 behind" in str(choice["reason"])
    assert "at 20% of its multiplications" in str(choice["reason"])


def test_the_standard_error_is_that_of_the_paired_difference() -> None:
    models = {"finetuned": (predictions(190), LARGE), "student": (predictions(180), SMALL)}
    rows = choose(models)["rows"]
    assert isinstance(rows, list)
    # ten samples of 200 won, none lost: the difference's error is that of one proportion of 0.05
    assert rows[1]["behind"] == pytest.approx(0.05)
    assert rows[1]["standard_error"] == pytest.approx(np.sqrt(0.05 * 0.95 / 200), rel=0.15)
    assert not rows[1]["equal"]


def test_a_difference_of_cost_that_is_none_lets_accuracy_and_then_log_loss_decide() -> None:
    near = Cost(190, 9)
    models = {"student": (predictions(190), SMALL), "student_frozen": (predictions(189), near)}
    assert choose(models)["chosen"] == "student"
    models = {"warm_head": (predictions(190, 2.0), LARGE), "finetuned": (predictions(190, 3.0), LARGE)}
    assert choose(models)["chosen"] == "finetuned"
    assert choose(dict(reversed(models.items())))["chosen"] == "finetuned", "whatever the order"


def test_of_equals_at_the_same_cost_features_as_they_are_are_taken_before_a_longer_training() -> None:
    models = {"warm_head": (predictions(189, wrong_at=5), LARGE), "finetuned": (predictions(190), LARGE)}
    choice = choose(models)
    assert choice["chosen"] == "warm_head"
    assert "finetuned (0.005 behind" in str(choice["reason"])
    assert str(choice["reason"]).endswith("which was trained longer")
    worse = {**models, "warm_head": (predictions(170), LARGE)}
    assert choose(worse)["chosen"] == "finetuned"
    cheaper = {**models, "student": (predictions(189, wrong_at=9), SMALL)}
    assert choose(cheaper)["chosen"] == "student", "what costs less comes first"


def test_a_model_that_was_asked_for_is_taken_and_what_auto_would_take_is_said() -> None:
    models = {"finetuned": (predictions(150), LARGE), "student": (predictions(190), SMALL)}
    choice = choose(models, "finetuned")
    assert choice["chosen"] == "finetuned"
    assert str(choice["reason"]).startswith(
        "promote.candidate says so; `auto` would take student: validation"
    )
    assert "and so would `auto`" in str(choose(models, "student")["reason"])


def test_label_sets_are_compared_by_mean_average_precision() -> None:
    truth = (np.random.default_rng(0).random((80, 3)) < 0.5).astype(np.int64)
    noise = np.random.default_rng(1).normal(size=truth.shape)
    good, bad = (
        LabelSetPredictions(2.0 * truth - 1 + scale * noise, truth, 1.0, np.full(3, 0.5))
        for scale in (0.5, 3)
    )
    found = choose_candidate({"a": bad, "b": good}, {"a": SMALL, "b": LARGE}, "auto", 0.1, 50, 0)
    assert (found["chosen"], found["metric"]) == ("b", "map")


def test_cost_is_counted_and_a_cut_is_cheaper() -> None:
    whole, cut = (cost_of(build("test_efficientnet", keep=keep), PREPROCESSING) for keep in (None, 3))
    assert whole == cost_of(build("test_efficientnet"), PREPROCESSING)
    assert cut.multiplications < whole.multiplications
    assert cut.parameters < whole.parameters
    network = build("test_efficientnet")
    assert whole.parameters == sum(p.numel() for p in network.parameters())
    # at least those of the head, and of the first convolution at half the side
    assert whole.multiplications > network.head.in_features * network.head.out_features + 16 * 16 * 27
