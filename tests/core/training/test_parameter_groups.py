from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from steps.core.backbones.network import Network
from steps.core.system.errors import TrainingError
from steps.core.training.parameter_groups import assert_covered, parameter_groups, stage_rates
from tests.core.toys import build

RATES = st.floats(1e-6, 1.0)
NETWORKS = {name: build(name) for name in ("test_efficientnet", "test_convnext", "vit_tiny_patch16_224")}


@st.composite
def grouped(draw: st.DrawFn) -> tuple[Network, int, float, float, list[dict[str, Any]]]:
    network = NETWORKS[draw(st.sampled_from(sorted(NETWORKS)))]
    boundary = draw(st.integers(0, len(network.stages)))
    network.freeze(boundary)
    head_lr, ratio = draw(RATES), draw(st.floats(0.01, 1.0))
    return network, boundary, head_lr, ratio, parameter_groups(network, boundary, head_lr, ratio, 0.05)


@given(grouped())
def test_every_trainable_parameter_is_in_exactly_one_group_and_no_frozen_one_in_any(made: Any) -> None:
    network, _, _, _, groups = made
    grouped_ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped_ids) == sorted(id(p) for p in network.parameters() if p.requires_grad)


@given(grouped())
def test_no_stage_learns_faster_than_a_later_one_and_the_head_learns_at_its_own_rate(made: Any) -> None:
    network, boundary, head_lr, ratio, groups = made
    rates = [group["lr"] for group in groups]
    assert rates == sorted(rates)
    assert max(rates) == groups[-1]["lr"] == head_lr
    for number in range(boundary, len(network.stages)):
        for group in groups:
            if group["name"].split("/")[0] == f"stage{number}":
                assert group["lr"] == pytest.approx(head_lr * ratio ** (len(network.stages) - number))


@given(grouped())
def test_norms_and_biases_are_not_decayed_and_weights_are(made: Any) -> None:
    network, _, _, _, groups = made
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    norms = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and (isinstance(module, norms) or name == "bias"):
                assert decay[id(parameter)] == 0
            elif parameter.requires_grad and isinstance(module, nn.Linear | nn.Conv2d):
                assert decay[id(parameter)] == 0.05


@given(grouped())
def test_every_group_has_a_name_of_its_own(made: Any) -> None:
    names = [group["name"] for group in made[-1]]
    assert len(set(names)) == len(names)
    assert {"head", "head/no_decay"} <= set(names)


@given(RATES, st.floats(0.01, 1), st.integers(0, 30))
def test_the_rate_falls_by_the_ratio_from_stage_to_stage(head_lr: float, ratio: float, depth: int) -> None:
    rates = [*stage_rates(head_lr, ratio, depth), head_lr]
    assert len(rates) == depth + 1
    for earlier, later in pairwise(rates):
        assert earlier == pytest.approx(later * ratio)


@pytest.mark.parametrize("ratio", [1.0000001, 3.0, 0.0, -0.5, float("nan"), float("inf")])
def test_a_ratio_outside_of_zero_to_one_is_refused(ratio: float) -> None:
    with pytest.raises(TrainingError, match=r"ratio .* is not in \(0, 1\]"):
        stage_rates(1e-3, ratio, 2)
    with pytest.raises(TrainingError, match="an earlier stage may not learn faster"):
        parameter_groups(NETWORKS["test_convnext"], 4, 1e-3, ratio, 0.0)


@pytest.mark.parametrize("boundary", [3, 6])
def test_a_stage_that_may_train_but_has_no_group_is_refused(boundary: int) -> None:
    network = build("test_efficientnet")
    network.freeze(2)
    with pytest.raises(TrainingError, match="every one must be in exactly one"):
        parameter_groups(network, boundary, 1e-3, 0.5, 0.0)


def test_a_parameter_that_is_listed_twice_is_refused() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(TrainingError, match="2 trainable parameters, 3 places in groups"):
        assert_covered(layer, [{"params": [layer.weight, layer.bias]}, {"params": [layer.bias]}])


def test_a_frozen_parameter_in_a_group_is_refused() -> None:
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    with pytest.raises(TrainingError):
        assert_covered(layer, [{"params": [layer.weight, layer.bias]}])


@given(RATES, st.lists(st.floats(0.01, 1), max_size=8))
def test_a_ratio_for_every_boundary_falls_from_the_head_down(head_lr: float, ratios: list[float]) -> None:
    rates = [*stage_rates(head_lr, ratios, len(ratios)), head_lr]
    for place, (earlier, later) in enumerate(pairwise(rates)):
        assert earlier == pytest.approx(later * ratios[len(ratios) - 1 - place])
        assert earlier <= later
    with pytest.raises(TrainingError, match="one is needed for each"):
        stage_rates(head_lr, ratios, len(ratios) + 1)
