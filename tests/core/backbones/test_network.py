import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from steps.core.backbones.network import Network, assert_frozen, frozen_digest
from steps.core.backbones.readout import Readout, pool
from steps.core.backbones.stages import Stage
from steps.core.backbones.timm_adapter import create
from steps.core.system.errors import ArtifactError, BackboneError, FrozenWeightsChanged
from tests.core.toys import build, image_network, same_state

SMALL = ["test_efficientnet", "test_resnet", "test_convnext", "test_mambaout", "vit_tiny_patch16_224"]


@pytest.fixture
def network() -> Network:
    return build("test_efficientnet")


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SMALL)
def test_entering_at_any_boundary_gives_the_logits_of_the_pixels(name: str, x: Tensor) -> None:
    network = build(name)
    with torch.inference_mode():
        logits = network(x)
        assert logits.shape == (4, 3)
        assert logits.std() > 0
        h = x
        for boundary in range(len(network.stages) + 1):
            assert torch.equal(network(h, boundary), logits), boundary
            h = network.run(h, boundary, boundary + 1)


@pytest.mark.parametrize("name", SMALL)
def test_the_embedding_is_timm_s_own_pooled_vector(name: str, x: Tensor) -> None:
    network = build(name)
    torch.manual_seed(0)
    model = create(name, 32).eval()
    with torch.inference_mode():
        pooled = model.forward_head(model.forward_features(x), pre_logits=True)
        torch.testing.assert_close(network.embed(x), pooled, atol=1e-5, rtol=1e-5)


def test_a_new_network_starts_at_the_loss_of_ignorance(x: Tensor) -> None:
    network = image_network("test_resnet", 7, 32)
    with torch.inference_mode():
        loss = nn.functional.cross_entropy(network(x), torch.tensor([0, 2, 4, 6]))
    assert loss.item() == pytest.approx(math.log(7), abs=1e-6)
    assert not network.training


@pytest.mark.parametrize("whom", ["the network", "its stages", "a stage", "everything"])
def test_a_frozen_prefix_is_byte_identical_after_training_passes(
    network: Network, x: Tensor, whom: str
) -> None:
    network.freeze(3)
    before, above = frozen_digest(network, 3), frozen_digest(network, 6)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    for _ in range(3):
        if whom in ("the network", "everything"):
            network.train()
        if whom in ("its stages", "everything"):
            network.stages.train()
        if whom in ("a stage", "everything"):
            network.stages[1].train()
            network.stages[4].train()
        optimizer.zero_grad()
        network(x).square().sum().backward()
        optimizer.step()
    assert frozen_digest(network, 3) == before
    assert frozen_digest(network, 6) != above
    norms = [m for s in network.stages[:3] for m in s.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(norm.num_batches_tracked == torch.tensor(0) for norm in norms)


def test_the_norms_above_the_boundary_do_learn_their_statistics(network: Network, x: Tensor) -> None:
    network.freeze(3)
    network.train()
    network(x)
    norms = [m for s in network.stages[3:] for m in s.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(norm.num_batches_tracked == torch.tensor(1) for norm in norms)


def test_fixed_statistics_stay_while_the_weights_above_the_boundary_train(
    network: Network, x: Tensor
) -> None:
    network.freeze(3)
    network.fix_statistics(True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        network.train()
        network(x).square().sum().backward()
        optimizer.step()
    buffers = {name for name, _ in network.stages.named_buffers(prefix="stages")}
    assert {name for name in buffers if "running_var" in name}
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in buffers)
    norms = [m for s in network.stages[3:] for m in s.modules() if isinstance(m, nn.BatchNorm2d)]
    assert any(
        not torch.equal(m.weight, before[f"{n}.weight"]) for n, m in network.named_modules() if m in norms
    )
    network.fix_statistics(False)
    network(x)
    assert all(norm.num_batches_tracked == 1 for norm in norms)


def test_a_fixed_statistic_that_moved_is_told_of(network: Network) -> None:
    network.freeze(3)
    network.fix_statistics(True)
    before = frozen_digest(network, 3, statistics=True)
    assert_frozen(network, 3, before, statistics=True)
    next(network.stages[4].buffers()).add_(0.5)
    assert_frozen(network, 3, frozen_digest(network, 3))
    with pytest.raises(FrozenWeightsChanged, match="fixed statistic"):
        assert_frozen(network, 3, before, statistics=True)


def test_freezing_says_for_every_parameter_whether_it_may_change(network: Network) -> None:
    for boundary in (6, 0, 2):
        network.freeze(boundary)
        for number, stage in enumerate(network.stages):
            assert {p.requires_grad for p in stage.parameters()} == {number >= boundary}
        assert all(p.requires_grad for p in network.head.parameters())


def test_a_copy_of_a_network_is_frozen_where_the_original_is_and_shares_nothing(network: Network) -> None:
    network.freeze(2)
    twin = copy.deepcopy(network).train()
    frozen = [stage.frozen for stage in twin.stages if isinstance(stage, Stage)]
    assert frozen == [True, True, False, False, False, False]
    assert not any(module.training for stage in twin.stages[:2] for module in stage.modules())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert same_state(network.state(), build("test_efficientnet").state())


@pytest.mark.parametrize("name", ["test_efficientnet", "vit_tiny_patch16_224"])
def test_a_state_has_timm_s_own_names_and_survives_the_way_out_and_in(name: str, x: Tensor) -> None:
    network = build(name)
    state = network.state()
    own = {f"backbone.{n}" for n in create(name, 32).state_dict()}
    assert set(state) == own | {"head.weight", "head.bias"}
    other = image_network(name, 3, 32)
    other.load_state(state)
    assert same_state(other.state(), state)
    with torch.inference_mode():
        assert torch.equal(other(x), network(x))


def test_a_state_does_not_change_with_the_network_it_was_taken_from(network: Network) -> None:
    state = network.state()
    with torch.no_grad():
        network.head.weight.add_(1)
    assert not torch.equal(state["head.weight"], network.head.weight)


@pytest.mark.parametrize(
    "other",
    [
        lambda: build("test_resnet"),
        lambda: build("test_efficientnet", classes=4),
        lambda: build("test_efficientnet", keep=4),
    ],
    ids=["another backbone", "another number of classes", "fewer stages"],
)
def test_a_state_of_another_architecture_is_refused_and_nothing_is_taken_over(
    network: Network, other: Callable[[], Network]
) -> None:
    before = network.state()
    with pytest.raises(ArtifactError, match="weights of another architecture"):
        network.load_state(other().state())
    names = [n for n in before if n.startswith("backbone")]
    assert same_state({n: before[n] for n in names}, {n: network.state()[n] for n in names})


@pytest.mark.parametrize("name", SMALL)
def test_keeping_fewer_stages_cuts_the_rest_and_pools_what_is_left(name: str, x: Tensor) -> None:
    whole, cut = build(name), build(name, keep=3)
    assert len(cut.stages) == 3
    with torch.inference_mode():
        h = whole.run(x, 0, 3)
        assert torch.equal(cut.run(x, 0, 3), h)
        z = cut.embed(x)
    axes = {3: (1,), 4: (1, 2) if name == "test_mambaout" else (2, 3)}[h.ndim]
    torch.testing.assert_close(z, h.mean(dim=axes))
    assert cut.head.in_features == z.shape[1] < h.numel() // 4
    assert set(cut.state()) < set(whole.state())


@pytest.mark.parametrize("keep", [0, -1, 7])
def test_more_stages_than_there_are_or_none_at_all_are_refused(keep: int) -> None:
    with pytest.raises(BackboneError, match=f"test_efficientnet has 6 stages, {keep} were asked for"):
        image_network("test_efficientnet", 3, 32, readout=Readout.top(keep))


def test_keeping_all_stages_is_keeping_the_network(x: Tensor) -> None:
    with torch.inference_mode():
        assert torch.equal(build("test_resnet", keep=5)(x), build("test_resnet")(x))


def test_a_network_is_built_with_the_weights_of_a_file(weights_of: Callable[[str], Path], x: Tensor) -> None:
    path = str(weights_of("test_resnet"))
    states = [image_network("test_resnet", 3, 32, path).state() for _ in range(2)]
    assert same_state(*states)
    torch.manual_seed(5)
    assert not same_state(states[0], image_network("test_resnet", 3, 32).state())


def test_pooling_averages_maps_and_tokens_and_leaves_vectors() -> None:
    vector = torch.randn(2, 5)
    assert pool(vector, "channels_first") is vector
    maps = vector[:, :, None, None].expand(2, 5, 3, 4)
    torch.testing.assert_close(pool(maps, "channels_first"), vector)
    torch.testing.assert_close(pool(maps.permute(0, 2, 3, 1), "channels_last"), vector)
    torch.testing.assert_close(pool(vector[:, None].expand(2, 7, 5), "channels_first"), vector)


@pytest.mark.parametrize("kind", ["parameter", "buffer"])
def test_the_digest_notices_the_smallest_change_below_the_boundary(network: Network, kind: str) -> None:
    tensors = network.stages[2].parameters() if kind == "parameter" else network.stages[2].buffers()
    before, below = frozen_digest(network, 3), frozen_digest(network, 2)
    tensor = next(tensor for tensor in tensors if tensor.ndim == 1)
    with torch.no_grad():
        tensor[0] = torch.nextafter(tensor[0], torch.tensor(9.0))
    assert frozen_digest(network, 2) == below
    with pytest.raises(FrozenWeightsChanged, match="below stage 3 changed"):
        assert_frozen(network, 3, before)
    assert_frozen(network, 2, below)
