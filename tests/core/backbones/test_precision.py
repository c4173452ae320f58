"""Products in bfloat16: where they are taken, what they come to, and what stays as it is."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steps.core.backbones import precision
from steps.core.backbones.precision import BFloat16Products, has_native_bfloat16, uses_bfloat16
from tests.core.toys import image_network

CPU = torch.device("cpu")
HEAD = torch.zeros(1)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Collect the weights that are multiplied in bfloat16."""
    seen: list[Tensor] = []
    own = precision.in_bfloat16
    monkeypatch.setattr(precision, "in_bfloat16", lambda *args: seen.append(args[2]) or own(*args))
    return seen


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def of_bfloat16(x: Tensor) -> Tensor:
    return x.bfloat16().double()


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_multiplies_what_has_been_rounded(
    last: bool, kernel: int, stride: int, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 8, kernel, stride, kernel // 2, bias=bias)
    x = drawn(4, 6, 7, 7).to(memory_format=torch.channels_last if last else torch.contiguous_format)
    with BFloat16Products(HEAD):
        found = layer(x)
    rounded = None if layer.bias is None else of_bfloat16(layer.bias)
    exact = F.conv2d(of_bfloat16(x), of_bfloat16(layer.weight), rounded, stride, kernel // 2)
    assert found.dtype == torch.float32
    # half of bfloat16's last place for the result; the sum itself is float32's
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-5)
    assert not torch.allclose(found, layer(x), rtol=1e-5), "or nothing was rounded"
    assert found.is_contiguous(memory_format=torch.channels_last) or not last


def test_gradients_are_float32_and_close_to_the_exact_ones() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 32)
    x, weights = drawn(16, 64), drawn(16, 32)
    (layer(x) * weights).sum().backward()
    exact = layer.weight.grad
    layer.zero_grad()
    with BFloat16Products(HEAD):
        (layer(x) * weights).sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    assert 0 < (layer.weight.grad - exact).norm() / exact.norm() < 2**-7


def test_the_head_groups_what_is_not_differentiated_and_other_types_stay(products: list[Tensor]) -> None:
    head, linear, grouped = nn.Linear(4, 2), nn.Linear(4, 4), nn.Conv2d(4, 4, 3, groups=2)
    with BFloat16Products(head.weight):
        head(drawn(2, 4))
        grouped(drawn(2, 4, 5, 5))
        linear.double()(drawn(2, 4).double())
        linear.float()
        with torch.no_grad():
            linear(drawn(2, 4))
        with torch.inference_mode():
            linear(drawn(2, 4))
        assert not products
        linear(drawn(2, 4))
    assert [weight is linear.weight for weight in products] == [True]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Be a machine with the instructions that a test says."""
    able: dict[str, Any] = {}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    has_native_bfloat16.cache_clear()
    yield able
    has_native_bfloat16.cache_clear()


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16"])
def test_auto_is_bfloat16_where_the_processor_has_it(machine: dict[str, Any], instruction: str) -> None:
    machine[instruction] = True
    assert uses_bfloat16("auto", CPU)
    assert not uses_bfloat16("float32", CPU)


def test_auto_is_float32_elsewhere(machine: dict[str, Any]) -> None:
    machine.update(avx512_bf16=False, avx2=True)
    assert not uses_bfloat16("auto", CPU)
    assert uses_bfloat16("bfloat16", CPU), "who asks for it gets it"
    assert not uses_bfloat16("auto", torch.device("mps"))


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "test_convnext", "vit_tiny_patch16_224"]
)
def test_a_backbone_s_gradient_points_the_same_way(products: list[Tensor], name: str) -> None:
    network = image_network(name, 3, 32)
    start = len(network.stages) - 2
    network.freeze(start)
    network.train()
    nn.init.normal_(network.head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    h = network.run(drawn(8, 3, 32, 32), 0, start).detach()
    grads = []
    for mode in (nullcontext(), BFloat16Products(network.head.weight)):
        network.zero_grad()
        with mode:
            loss = F.cross_entropy(network(h, start), torch.arange(8) % 3)
        loss.backward()
        grads.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    assert products
    assert not torch.equal(*grads)
    # weights are random, and BatchNorm of eight samples magnifies what is rounded
    assert F.cosine_similarity(*grads, dim=0) > 0.97
