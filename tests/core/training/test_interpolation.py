"""Weights between those before and after a training, chosen on validation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from steps.core.backbones.network import Network
from steps.core.features.batches import Batches
from steps.core.training.interpolation import between, interpolate
from steps.core.training.loop import Epoch, Trained, measure
from tests.core.toys import Pictures, batches, build, cached, same_state


@pytest.fixture
def network() -> Network:
    network = build("test_efficientnet")
    torch.manual_seed(1)
    torch.nn.init.normal_(network.head.weight, std=0.05)
    return network


@pytest.fixture
def found(pictures: Pictures, network: Network, tmp_path: Path) -> Batches:
    source = cached(pictures, network, 4, tmp_path)
    return batches(source, source.index)


def trained(network: Network, found: Batches, change: Callable[[torch.Tensor], torch.Tensor]) -> Trained:
    """A training that has changed the head's weights."""
    with torch.no_grad():
        network.head.weight.copy_(change(network.head.weight))
    best = Epoch(3, 0.5, head_lr=1e-3, **measure(network, found))
    return Trained(network, [best], best)


@pytest.mark.parametrize("monitor", ["loss", "accuracy", "macro_f1"])
def test_a_training_that_only_did_harm_is_taken_back(network: Network, found: Batches, monitor: str) -> None:
    before = network.state()
    right = measure(network, found)["val_loss"]
    result, fraction = interpolate(
        trained(network, found, lambda weight: -30 * weight), before, [0.0, 0.5], found, monitor
    )
    least = min((0.0, 0.5, 1.0), key=lambda f: values(network, found, before, f, monitor))
    assert fraction == least
    assert same_state(network.state(), between(before, trained_state(before), fraction))
    assert result.best.val_loss == pytest.approx(measure(network, found)["val_loss"], abs=1e-7)
    if monitor == "loss":
        assert result.best.val_loss <= right
    assert result.best.epoch == 3


def trained_state(before: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state after the training of the test above."""
    return {**before, "head.weight": -30 * before["head.weight"]}


def values(
    network: Network, found: Batches, before: dict[str, torch.Tensor], fraction: float, monitor: str
) -> tuple[float, ...]:
    """Measure one fraction by hand, and leave the network as it was."""
    own = network.state()
    network.load_state(between(before, trained_state(before), fraction))
    measured = Epoch(3, 0.5, head_lr=1e-3, **measure(network, found)).badness(monitor)
    network.load_state(own)
    return (*measured, -fraction)


def test_without_fractions_and_among_equals_the_trained_weights_stay(
    network: Network, found: Batches
) -> None:
    before = network.state()
    for fractions in ([], [0.0, 0.25, 1.0]):
        result, fraction = interpolate(trained(network, found, lambda x: x), before, fractions, found, "loss")
        assert fraction == 1.0
        assert same_state(network.state(), before)
        assert result.best == replace(result.best, val_loss=result.history[-1].val_loss)


def test_between_takes_counts_from_the_later_state() -> None:
    before = {"w": torch.tensor([0.0, 2.0]), "n": torch.tensor(3)}
    after = {"w": torch.tensor([4.0, 2.0]), "n": torch.tensor(8)}
    assert between(before, after, 0.25)["w"].tolist() == [1.0, 2.0]
    assert between(before, after, 0.25)["n"] == 8
    assert torch.equal(between(before, after, 1.0)["w"], after["w"])
