import copy
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from steps.core.backbones.network import Network, frozen_digest
from steps.core.backbones.settings import freezes_statistics
from steps.core.features.batches import Batch, Batches
from steps.core.system.errors import Diverged, FrozenWeightsChanged
from steps.core.training.checkpoint import Checkpoint, trainable_state
from steps.core.training.divergence import explain_divergence
from steps.core.training.loop import Epoch, Trained, fit, predict, train
from steps.core.training.objectives import Classify, Objective
from steps.core.training.parameter_groups import parameter_groups
from steps.core.training.recipe import Recipe
from steps.core.training.stepper import make_schedule
from tests.core.toys import RECIPE, Pictures, batches, build, cached, same_state, uncached

LR = 3e-3


def learn(
    network: Network, found: Batches, recipe: Recipe = RECIPE, task: Objective | None = None, lr: float = LR
) -> Trained:
    """Train a copy of the network from the boundary at which the batches enter."""
    boundary = found.source.start
    network = copy.deepcopy(network)
    network.freeze(boundary)
    groups = parameter_groups(network, boundary, lr, 0.5, recipe.weight_decay)
    return train(network, boundary, task or Classify(recipe), found, recipe, groups, lambda epoch: None)


def warm(pictures: Pictures, network: Network, boundary: int, folder: Path, **options: Any) -> Batches:
    source = cached(pictures, network, boundary, folder)
    return batches(source, source.index, **options)


def change(**fields: Any) -> Recipe:
    return RECIPE.model_copy(update=fields)


@pytest.fixture
def network() -> Network:
    return build("test_efficientnet")


@pytest.fixture
def top(pictures: Pictures, network: Network, tmp_path: Path) -> Batches:
    return warm(pictures, network, 6, tmp_path)


@pytest.mark.parametrize(("choice", "moves"), [("frozen", False), ("auto", False), ("updated", True)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_statistics_move_only_where_the_recipe_says_so(
    network: Network, pictures: Pictures, tmp_path: Path, choice: str, moves: bool, precision: str
) -> None:
    found = warm(pictures, network, 3, tmp_path)
    trained = learn(network, found, change(batch_norm=choice, precision=precision)).network
    before, after = (dict(n.stages[3:].named_buffers()) for n in (network, trained))
    assert any(not torch.equal(after[name], before[name]) for name in before) is moves
    weights, learnt = (dict(n.stages[3:].named_parameters()) for n in (network, trained))
    assert any(not torch.equal(learnt[name], weights[name]) for name in weights if "bn" in name)


def test_batch_norm_auto_updates_where_the_samples_are_many() -> None:
    assert [freezes_statistics("auto", n) for n in (9_999, 10_000)] == [True, False]
    assert freezes_statistics("frozen", 10**6)
    assert not freezes_statistics("updated", 1)


@pytest.mark.parametrize("unfreeze", [0, 1, 3])
@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_from_the_cache_is_training_from_the_pixels_bit_for_bit(
    pictures: Pictures, tmp_path: Path, name: str, unfreeze: int, precision: str
) -> None:
    network, recipe = build(name), change(precision=precision)
    boundary = len(network.stages) - unfreeze
    fast = learn(network, warm(pictures, network, boundary, tmp_path), recipe)
    slow = learn(network, batches(uncached(pictures, network, boundary), pictures.index()), recipe)
    assert fast.history == slow.history
    assert same_state(fast.network.state(), slow.network.state())
    assert not same_state(fast.network.state(), network.state())


def test_training_everything_reads_pixels_and_changes_every_stage(pictures: Pictures, tmp_path: Path) -> None:
    network = build("test_resnet")
    found = learn(network, batches(uncached(pictures, network, 0), pictures.index()), change(epochs=1))
    before = network.state()
    for name, tensor in found.network.state().items():
        assert not torch.equal(tensor, before[name]), name


def test_the_same_seed_twice_gives_identical_weights_and_another_seed_does_not(
    pictures: Pictures, network: Network, tmp_path: Path
) -> None:
    runs: list[Trained] = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(runs))  # the loop must not listen to it
        runs.append(learn(network, warm(pictures, network, 4, tmp_path, seed=seed), change(mixup=0.2)))
    assert runs[0].history == runs[1].history
    assert same_state(runs[0].network.state(), runs[1].network.state())
    assert not same_state(runs[0].network.state(), runs[2].network.state())


def test_trained_stages_multiply_in_the_precision_that_is_asked_for(
    pictures: Pictures, network: Network, tmp_path: Path
) -> None:
    found = warm(pictures, network, 4, tmp_path)
    exact, half = (learn(network, found, change(precision=name)) for name in ("float32", "bfloat16"))
    assert exact.history != half.history
    assert exact.best.val_loss == pytest.approx(half.best.val_loss, rel=0.02)


def test_the_loss_goes_down_and_the_toy_problem_is_learnt(pictures: Pictures, tmp_path: Path) -> None:
    network = build("test_convnext")
    recipe = change(epochs=8, label_smoothing=0.0, patience=8)
    found = learn(network, warm(pictures, network, 3, tmp_path), recipe, lr=1e-3)
    assert found.history[-1].train_loss < 0.1 * found.history[0].train_loss
    assert found.best.val_accuracy == 1.0


def test_an_epoch_s_figures_are_those_of_the_very_weights_it_holds(
    network: Network, pictures: Pictures, tmp_path: Path
) -> None:
    found = warm(pictures, network, 4, tmp_path)
    network.freeze(4)
    groups = parameter_groups(network, 4, LR, 0.5, 0.0)
    for epoch in fit(network, Classify(RECIPE), found, RECIPE, groups):
        logits, labels = predict(copy.deepcopy(network), found, "val")
        assert epoch.val_loss == F.cross_entropy(logits, labels).item()
        assert epoch.val_accuracy == (logits.argmax(1) == labels).float().mean().item()


def test_one_plain_step_moves_the_head_as_adamw_s_formula_says(
    network: Network, pictures: Pictures, tmp_path: Path
) -> None:
    found = warm(pictures, network, 6, tmp_path, batch_size=12)
    recipe = change(epochs=1, schedule="constant", warmup=0.0, clip_norm=None, label_smoothing=0.0)
    after = learn(network, found, recipe, lr=0.01).network.head
    (batch,) = found.train(1)
    network.zero_grad()
    F.cross_entropy(network(batch.x, 6), batch.y).backward()
    for name, decay in (("weight", recipe.weight_decay), ("bias", 0.0)):
        before = getattr(network.head, name)
        # Adam's first step: both moments, corrected for their bias, are the gradient and its square
        wanted = before * (1 - 0.01 * decay) - 0.01 * before.grad / (before.grad.abs() + 1e-8)
        torch.testing.assert_close(getattr(after, name), wanted, atol=1e-6, rtol=1e-5)


def test_the_loop_is_nothing_but_adamw_on_the_batches_in_their_order(network: Network, top: Batches) -> None:
    recipe = change(epochs=2, schedule="constant", warmup=0.0, clip_norm=None, label_smoothing=0.0)
    learnt = learn(network, top, recipe, lr=1e-3)
    assert learnt.best is learnt.history[-1]
    head = copy.deepcopy(network.head).train()
    groups = [{"params": [head.weight]}, {"params": [head.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=recipe.weight_decay, fused=True)
    for epoch in (1, 2):
        for batch in top.train(epoch):
            optimizer.zero_grad()
            F.cross_entropy(head(batch.x), batch.y).backward()
            optimizer.step()
    assert torch.equal(learnt.network.head.weight, head.weight)
    assert torch.equal(learnt.network.head.bias, head.bias)


def test_clipping_bounds_the_gradient_of_all_parameters_together(
    network: Network, pictures: Pictures, tmp_path: Path
) -> None:
    norms: list[float] = []

    @dataclass(frozen=True)
    class Watched:
        inner: Classify

        def __call__(self, network: Network, batch: Batch, start: int, generator: torch.Generator) -> Tensor:
            grads = [p.grad for p in network.parameters() if p.grad is not None]  # of the step before
            if grads:
                norms.append(torch.cat([g.flatten() for g in grads]).norm().item())
            return self.inner(network, batch, start, generator)

    found = warm(pictures, network, 4, tmp_path)
    learn(network, found, change(clip_norm=0.01), Watched(Classify(RECIPE)))
    assert len(norms) > 3
    assert max(norms) == pytest.approx(0.01, rel=1e-3)
    clipped = len(norms)
    learn(network, found, change(clip_norm=None), Watched(Classify(RECIPE)))
    assert max(norms[clipped:]) > 0.1


@dataclass(frozen=True)
class Meddling:
    """A task that touches something on the side."""

    touch: Callable[[Network], Tensor]

    def __call__(self, network: Network, batch: Batch, start: int, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            self.touch(network).add_(1e-6)
        return F.cross_entropy(network(batch.x, start), batch.y)


@pytest.mark.parametrize("what", ["parameters", "buffers"])
def test_a_task_that_changes_something_frozen_is_caught(
    network: Network, pictures: Pictures, tmp_path: Path, what: str
) -> None:
    found = warm(pictures, network, 4, tmp_path)
    with pytest.raises(FrozenWeightsChanged, match="below stage 4 changed while it was frozen"):
        learn(network, found, task=Meddling(lambda net: next(getattr(net.stages[3], what)())))
    learn(network, found, task=Meddling(lambda net: next(getattr(net.stages[4], what)())))


def test_training_leaves_the_frozen_prefix_and_its_statistics_as_they_were(
    network: Network, pictures: Pictures
) -> None:
    found = batches(uncached(pictures, network, 3), pictures.index())
    after = learn(network, found).network
    assert frozen_digest(after, 3) == frozen_digest(network, 3)
    assert frozen_digest(after, 4) != frozen_digest(network, 4)


@pytest.mark.parametrize("guilty", ["stage4", "head"])
def test_an_absurd_learning_rate_is_answered_with_the_name_of_its_group(
    network: Network, pictures: Pictures, tmp_path: Path, guilty: str
) -> None:
    found = warm(pictures, network, 4, tmp_path)
    network.freeze(4)
    groups = parameter_groups(network, 4, LR, 0.5, 0.0)
    for group in groups:
        if group["name"] == guilty:
            group["lr"] = 3e37
    with pytest.raises(Diverged, match=rf"are in {guilty} \(learning rate .*lower its rate"):
        list(fit(network, Classify(RECIPE), found, change(schedule="constant", warmup=0.0), groups))


def test_the_group_whose_weights_are_not_numbers_is_the_one_that_is_named() -> None:
    groups = [
        {"name": "broken", "lr": 1.0, "params": [torch.ones(2), torch.tensor([float("nan")])]},
        {"name": "large", "lr": 0.1, "params": [torch.full((2,), 9.0)]},
    ]
    assert "broken" in explain_divergence(math.nan, 1, 2, groups, {"broken": 1.0, "large": 0.1})


def test_the_group_that_has_grown_most_is_named_and_not_the_one_that_was_large_already() -> None:
    groups = [
        {"name": "norms", "lr": 0.1, "params": [torch.full((2,), 9.0)]},
        {"name": "head", "lr": 1.0, "params": [torch.full((2,), 3.0)]},
    ]
    said = explain_divergence(70.0, 1, 2, groups, {"norms": 8.9, "head": 0.1})
    assert "has grown to 70 in epoch 1, step 2" in said
    assert "grown most, 30 times, are in head (learning rate 1.0e+00)" in said


@pytest.mark.parametrize("guilty", ["stage4", "head"])
def test_a_loss_that_explodes_stops_at_once_though_it_is_finite(
    network: Network, pictures: Pictures, tmp_path: Path, guilty: str
) -> None:
    found = warm(pictures, network, 4, tmp_path)
    network.freeze(4)
    groups = parameter_groups(network, 4, LR, 0.5, 0.0)
    for group in groups:
        if group["name"] == guilty:
            group["lr"] = 3e3
    recipe = change(schedule="constant", warmup=0.0, clip_norm=None)
    with pytest.raises(Diverged, match=rf"has grown to .* in epoch 1, step [1-3]; .* are in {guilty} \("):
        list(fit(network, Classify(RECIPE), found, recipe, groups))


def test_a_training_that_diverges_keeps_its_last_good_epoch(
    network: Network, pictures: Pictures, tmp_path: Path
) -> None:
    found = warm(pictures, network, 4, tmp_path)
    network.freeze(4)
    groups = parameter_groups(network, 4, LR, 0.5, 0.0)
    recipe, steps, seen = change(epochs=5), [], []

    def spoilt(network: Network, batch: Batch, start: int, generator: torch.Generator) -> Tensor:
        """Turn into nonsense after two epochs."""
        steps.append(batch)
        loss = Classify(recipe)(network, batch, start, generator)
        return loss * (math.nan if len(steps) > 2 * found.steps() else 1.0)

    def preprocessing(epoch: Epoch) -> None:
        seen.append(copy.deepcopy(trainable_state(network)))

    file = tmp_path / "training.safetensors"
    says = r"not finite in epoch 3, step 0; .* the weights of epoch [12], .* are kept in "
    with pytest.raises(Diverged, match=says + re.escape(str(file))):
        train(network, 4, spoilt, found, recipe, groups, preprocessing, file)
    kept = Checkpoint(file).load()
    assert kept is not None
    _, weights, history = kept
    assert [row["epoch"] for row in history] == [1, 2]
    best = min(history, key=lambda row: row["val_loss"])["epoch"]
    assert same_state(weights, seen[best - 1])


def test_an_epoch_whose_validation_loss_is_not_finite_is_divergence(
    network: Network, pictures: Pictures, tmp_path: Path
) -> None:
    found = warm(pictures, network, 4, tmp_path, batch_size=12)  # one step an epoch
    recipe = change(epochs=1, schedule="constant", warmup=0.0, clip_norm=None)
    with pytest.raises(Diverged):
        learn(network, found, recipe, lr=3e37)


def rates(recipe: Recipe, steps: int, peaks: tuple[float, ...] = (1.0,)) -> list[list[float]]:
    """The rates that the optimiser's steps are taken with, by group."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": peak} for peak in peaks]
    optimizer = torch.optim.AdamW(groups)
    schedule = make_schedule(optimizer, recipe, steps)
    found: list[list[float]] = [[] for _ in peaks]
    for _ in range(recipe.epochs * steps):
        for row, group in zip(found, optimizer.param_groups, strict=True):
            row.append(float(group["lr"]))
        optimizer.step()
        schedule.step()
    return found


def test_a_cosine_falls_from_the_peak_to_nearly_nothing() -> None:
    (found,) = rates(change(schedule="cosine", warmup=0.0, epochs=5), 20)
    assert found[0] == 1.0
    assert found == sorted(found, reverse=True)
    assert 0 < found[-1] < 1e-3
    assert found[50] == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_warm_up_rises_evenly_to_the_peak_in_its_share_of_the_steps(schedule: str) -> None:
    (found,) = rates(change(schedule=schedule, warmup=0.2, epochs=5), 20)
    rising = [b - a for a, b in pairwise(found[:21])]
    assert found[0] > 0
    assert all(step == pytest.approx(1 / 21) for step in rising)
    assert found[20] == pytest.approx(1.0)
    assert max(found) == found[20]


def test_a_constant_schedule_is_constant() -> None:
    assert rates(change(schedule="constant", warmup=0.0, epochs=3), 7, (1.0, 0.1)) == [[1.0] * 21, [0.1] * 21]


def test_one_cycle_peaks_at_each_group_s_own_rate_where_the_warm_up_ends() -> None:
    found = rates(change(schedule="one_cycle", warmup=0.3, epochs=5), 20, (1.0, 0.1))
    for row, peak in zip(found, (1.0, 0.1), strict=True):
        assert max(row) == pytest.approx(peak, rel=1e-2)
        assert abs(row.index(max(row)) - 30) <= 1
        assert row[0] < 0.1 * peak
        assert row[-1] < 0.01 * peak


@given(
    st.sampled_from(["constant", "cosine", "one_cycle"]),
    st.floats(0, 1),
    st.integers(1, 6),
    st.integers(0, 9),
)
def test_no_schedule_ever_leaves_the_range_from_zero_to_the_peak(
    schedule: str, warmup: float, epochs: int, steps: int
) -> None:
    (found,) = rates(change(schedule=schedule, warmup=warmup, epochs=epochs), max(steps, 1), (0.01,))
    assert len(found) == epochs * max(steps, 1)
    assert all(0 <= rate <= 0.01 * (1 + 1e-9) for rate in found)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_a_training_of_a_single_step_still_learns_something(schedule: str, warmup: float) -> None:
    (found,) = rates(change(schedule=schedule, warmup=warmup, epochs=1), 1)
    assert found[0] > 0


def test_the_rate_that_an_epoch_reports_is_the_head_s(top: Batches, network: Network) -> None:
    found = learn(network, top, change(schedule="constant", warmup=0.0), lr=0.002)
    assert [epoch.head_lr for epoch in found.history] == [0.002, 0.002]


def test_a_cosine_over_the_whole_training_ends_near_zero(network: Network, top: Batches) -> None:
    recipe = change(schedule="cosine", warmup=0.0, epochs=4)
    history = learn(network, top, recipe, lr=0.002).history
    assert history[0].head_lr > history[1].head_lr > history[2].head_lr
    assert history[-1].head_lr == pytest.approx(0.0, abs=1e-9)


def worsening(found: Batches) -> Batches:
    """The same batches with validation labels that contradict training."""
    index = found.index.assign(
        label=[
            (n + (split == "val")) % 3
            for n, split in zip(found.index["label"], found.index["split"], strict=True)
        ]
    )
    return Batches(found.source, index, found.views, found.batch_size, found.seed)


@pytest.mark.parametrize(("batch_size", "least", "epochs"), [(5, 0, 2), (5, 7, 3), (12, 7, 7), (5, 4, 2)])
def test_a_small_set_gets_the_epochs_that_the_least_number_of_steps_takes(
    network: Network, pictures: Pictures, tmp_path: Path, batch_size: int, least: int, epochs: int
) -> None:
    found = warm(pictures, network, 6, tmp_path, batch_size=batch_size)
    trained = learn(network, found, change(min_steps=least, patience=100))
    assert len(trained.history) == epochs
    assert trained.history[-1].head_lr < trained.history[0].head_lr, "the schedule is as long as the training"


@pytest.mark.parametrize("patience", [1, 2])
def test_training_stops_after_patience_epochs_without_gain_and_returns_the_best_weights(
    network: Network, pictures: Pictures, tmp_path: Path, patience: int
) -> None:
    found = worsening(warm(pictures, network, 6, tmp_path))
    recipe = change(epochs=30, patience=patience, schedule="constant", warmup=0.0)
    trained = learn(network, found, recipe, lr=0.05)
    losses = [epoch.val_loss for epoch in trained.history]
    assert len(losses) < 30
    assert trained.best.val_loss == min(losses)
    assert trained.best is trained.history[losses.index(min(losses))]
    assert trained.history[-1].epoch - trained.best.epoch == patience
    logits, labels = predict(trained.network, found, "val")
    assert F.cross_entropy(logits, labels).item() == trained.best.val_loss


def test_training_goes_on_to_the_end_while_it_gains(network: Network, top: Batches) -> None:
    trained = learn(network, top, change(epochs=6, patience=1, label_smoothing=0.0), lr=1e-3)
    assert [epoch.epoch for epoch in trained.history] == [1, 2, 3, 4, 5, 6]
    assert trained.best is trained.history[-1]


def test_every_epoch_is_told_to_the_caller_as_it_ends(network: Network, top: Batches) -> None:
    told: list[Epoch] = []
    network.freeze(6)
    groups = parameter_groups(network, 6, LR, 1.0, 0.0)
    trained = train(network, 6, Classify(RECIPE), top, RECIPE, groups, told.append)
    assert told == trained.history
    assert trained.records()[0]["val_loss"] == told[0].val_loss
    assert not trained.network.training


def test_prediction_is_in_eval_mode_and_leaves_the_statistics_alone(
    pictures: Pictures, network: Network, tmp_path: Path
) -> None:
    found = warm(pictures, network, 2, tmp_path)
    network.freeze(2)
    before = network.state()
    network.train()
    logits, labels = predict(network, found, "test")
    assert not any(module.training for module in network.modules())
    assert same_state(network.state(), before)
    again, _ = predict(network.eval(), found, "test")
    assert torch.equal(logits, again)
    wanted = found.index.loc[found.index["split"] == "test", "label"].tolist()
    assert labels.tolist() == wanted


def test_predictions_do_not_depend_on_the_size_of_the_batches(
    pictures: Pictures, network: Network, tmp_path: Path
) -> None:
    one = predict(network, warm(pictures, network, 4, tmp_path, batch_size=2), "val")[0]
    other = predict(network, warm(pictures, network, 4, tmp_path, batch_size=9), "val")[0]
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_the_schedule_is_stepped_after_the_optimiser(network: Network, top: Batches) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where the order is wrong
        history = learn(network, top, change(schedule="one_cycle")).history
    assert all(math.isfinite(epoch.train_loss) for epoch in history)
    assert len(history) == 2
