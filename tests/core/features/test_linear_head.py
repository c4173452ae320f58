import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from steps.core.features.linear_head import (
    SCALINGS,
    Axes,
    Floats,
    Ints,
    fit_head,
    folds_of,
    groups_of,
    objective,
    solve,
)
from steps.core.features.settings import HeadSettings

CFG = HeadSettings(scaling="auto", inverse_penalties=[1e-3, 1e1], folds=3, samples=1000, class_weights="none")
CLASSES = 3


def draw(count: int, features: int, sets: bool = False, noise: float = 1.0) -> tuple[Floats, Ints]:
    """Draw vectors of uneven scale that tell the class in part."""
    generator = np.random.default_rng(0)
    spread = np.exp(generator.normal(size=features))
    y = generator.integers(0, 2, (count, CLASSES)) if sets else generator.integers(0, CLASSES, count)
    told = (
        y @ generator.normal(size=(CLASSES, features))
        if sets
        else generator.normal(size=(CLASSES, features))[y]
    )
    x = (0.5 * told + noise * generator.normal(size=(count, features))) * spread + spread
    return x, y


def one(x: Floats, y: Ints, c: float, scaling: str) -> tuple[Floats, Floats, Floats]:
    """Return weights and biases in scaled features, and the scaled features."""
    axes = Axes.of(x, scaling)
    head = solve(axes.coordinates(x), axes.variances, y, CLASSES, c, None)
    deviations = x.std(axis=0)
    scale = deviations if scaling == "standardised" else np.sqrt(np.mean(deviations**2))
    weight = (axes.turn @ head[:-1]).T * scale
    return weight, head[-1], (x - x.mean(axis=0)) / scale


def total(logits: Floats, weight: Floats, y: Ints, c: float) -> float:
    """Return scikit-learn's objective per sample, over C."""
    return objective(logits, y)[0] / len(y) + 0.5 * float((weight**2).sum()) / (c * len(y))


@pytest.mark.parametrize("c", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("shape", [(200, 12), (60, 150)])
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("sets", [False, True])
def test_the_loss_is_scikit_learn_s_optimum(
    sets: bool, scaling: str, shape: tuple[int, int], c: float
) -> None:
    x, y = draw(*shape, sets=sets)
    weight, bias, scaled = one(x, y, c, scaling)
    own = total(scaled @ weight.T + bias, weight, y, c)
    solved = [
        LogisticRegression(C=c, tol=1e-8, max_iter=20_000).fit(scaled, column)
        for column in (y.T if sets else [y])
    ]
    theirs = np.vstack([model.coef_ for model in solved])
    logits = np.column_stack([model.decision_function(scaled) for model in solved])
    assert own == pytest.approx(total(logits, theirs, y, c), abs=1e-3)


def test_the_head_reads_vectors_as_they_are() -> None:
    x, y = draw(120, 10)
    for scaling in SCALINGS:
        cfg = CFG.model_copy(update={"scaling": scaling})
        head = fit_head(x, y, CLASSES, range(len(x)), cfg, 0)
        weight, bias, scaled = one(x, y, head.inverse_penalty, scaling)
        wanted = scaled @ weight.T + bias
        found = head.logits(x)
        assert head.scaling == scaling
        centred = [logits - logits.mean(axis=1, keepdims=True) for logits in (found, wanted)]
        np.testing.assert_allclose(*centred, atol=1e-6)


def test_the_penalty_is_strong_where_features_are_noise_and_weak_where_they_are_clear() -> None:
    y = np.random.default_rng(1).integers(0, CLASSES, 150)
    noise = np.random.default_rng(2).normal(size=(150, 60))
    clear = noise + 4.0 * np.eye(60)[y]
    strong, weak = (fit_head(x, y, CLASSES, range(150), CFG, 0) for x in (noise, clear))
    assert strong.inverse_penalty == CFG.inverse_penalties[0] < weak.inverse_penalty
    assert weak.cv_loss < 0.3 < np.log(CLASSES) * 0.95 < strong.cv_loss


def test_unseen_logits_are_of_heads_that_have_not_seen_the_sample() -> None:
    y = np.random.default_rng(1).integers(0, CLASSES, 90)
    noise = np.random.default_rng(2).normal(size=(90, 200))
    cfg = CFG.model_copy(update={"inverse_penalties": [1e1, 1e2]})
    head = fit_head(noise, y, CLASSES, range(90), cfg, 0)
    assert (head.logits(noise).argmax(axis=1) == y).mean() == 1.0
    assert (head.unseen.argmax(axis=1) == y).mean() < 0.6
    assert head.cv_loss == pytest.approx(objective(head.unseen, y)[0] / 90)


def test_no_fold_divides_a_group_and_all_samples_are_asked_once() -> None:
    y = np.random.default_rng(0).integers(0, CLASSES, 60)
    groups = [f"g{n // 3}" for n in range(60)]
    asked = []
    for fitted, others in folds_of(y, groups, 4, 0):
        assert not {groups[n] for n in fitted} & {groups[n] for n in others}
        asked += others.tolist()
    assert sorted(asked) == list(range(60))


def test_groups_keep_copies_from_making_a_head_look_good() -> None:
    generator = np.random.default_rng(0)
    y = np.repeat(generator.integers(0, CLASSES, 30), 4)
    x = np.repeat(generator.normal(size=(30, 80)), 4, axis=0)
    divided = fit_head(x, y, CLASSES, range(120), CFG, 0)
    held = fit_head(x, y, CLASSES, np.repeat(np.arange(30), 4).tolist(), CFG, 0)
    assert divided.cv_loss < 0.5 < 1.0 < held.cv_loss


def test_few_samples_choose_and_all_are_fitted() -> None:
    x, y = draw(200, 6)
    head = fit_head(x, y, CLASSES, range(200), CFG.model_copy(update={"samples": 50}), 0)
    assert np.isfinite(head.unseen).all(axis=1).sum() == 50
    weight, bias, scaled = one(x, y, head.inverse_penalty, head.scaling)
    np.testing.assert_allclose(head.logits(x).argmax(axis=1), (scaled @ weight.T + bias).argmax(axis=1))


def test_a_single_group_leaves_nothing_to_choose_by_and_still_gives_a_head() -> None:
    x, y = draw(30, 4)
    head = fit_head(x, y, CLASSES, ["one"] * 30, CFG, 0)
    assert head.inverse_penalty == pytest.approx(0.1)
    assert np.isfinite(head.weight).all()


def test_a_constant_feature_and_a_single_sample_do_no_harm() -> None:
    x, y = draw(40, 5)
    x[:, 2] = 7.0
    for part in (slice(0, 40), slice(0, 1)):
        head = fit_head(x[part], y[part], CLASSES, range(40)[part], CFG, 0)
        assert np.isfinite(head.weight).all()
        assert np.isfinite(head.bias).all()


def test_the_number_of_threads_changes_logits_by_rounding_only() -> None:
    x, y = draw(300, 400)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(fit_head(x, y, CLASSES, range(300), CFG, 0))
    again = fit_head(x, y, CLASSES, range(300), CFG, 0)
    assert found[0].inverse_penalty == found[1].inverse_penalty == again.inverse_penalty
    np.testing.assert_allclose(found[0].logits(x), found[1].logits(x), atol=1e-4)
    with threadpool_limits(1):
        assert np.array_equal(fit_head(x, y, CLASSES, range(300), CFG, 0).weight, found[0].weight)


def test_groups_are_the_index_s_or_the_contents() -> None:
    index = pd.DataFrame({"sha256": ["a", "b"]})
    assert groups_of(index) == ["a", "b"]
    assert groups_of(index.assign(group=["g", "g"])) == ["g", "g"]


def test_balanced_weights_are_scikit_learn_s() -> None:
    x, y = draw(150, 8)
    y[y == 2] = np.where(np.arange((y == 2).sum()) % 5, 0, 2)
    axes = Axes.of(x, "standardised")
    weights = len(y) / (CLASSES * np.bincount(y))
    head = solve(axes.coordinates(x), axes.variances, y, CLASSES, 1.0, None, weights)
    model = LogisticRegression(C=1.0, tol=1e-8, max_iter=20_000, class_weight="balanced")
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    theirs = model.fit(scaled, y).decision_function(scaled)
    found = axes.coordinates(x) @ head[:-1] + head[-1]
    centred = [logits - logits.mean(axis=1, keepdims=True) for logits in (found, theirs)]
    np.testing.assert_allclose(*centred, atol=1e-3)
