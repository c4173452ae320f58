"""Convolutions without detours: torch's own numbers, only sooner."""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from typing import Any

import pytest
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from steps.core.backbones import convolutions
from steps.core.backbones.convolutions import Depthwise, FastConvolutions

KERNELS = [(5, 5), (7, 7), (3, 5), (5, 4), (1, 9), (3, 3)]


def collect(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """Let calls through and return the list that their arguments go to."""
    calls: list[Any] = []
    own = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args: calls.append(args) or own(*args))
    return calls


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect the calls that get the fast gradient."""
    return collect(monkeypatch, Depthwise, "apply")


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect the calls that become a matrix product."""
    return collect(monkeypatch, convolutions, "as_matrix_product")


def map_of(*shape: int, **kind: Any) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), **kind)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3)], ids=str)
def test_the_gradient_is_the_convolutions(kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    for (high, wide), *padding in product(((11, 12), (3, 2), (1, 1)), (0, 1, kernel[0]), (0, 2, kernel[1])):
        if high + 2 * padding[0] < kernel[0] or wide + 2 * padding[1] < kernel[1]:
            continue  # the kernel finds no place
        x = map_of(2, 3, high, wide, dtype=torch.float64).to(memory_format=torch.channels_last)
        weight, bias = map_of(3, 1, *kernel, dtype=torch.float64), map_of(3, dtype=torch.float64)
        leaves = [x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
        plain = F.conv2d(x, weight, bias, stride, padding, 1, 3)
        fast = Depthwise.apply(x, weight, bias, stride, tuple(padding))
        assert torch.equal(fast, plain)
        grad = map_of(*plain.shape, dtype=torch.float64)
        for own, other in zip(
            torch.autograd.grad(fast, leaves, grad), torch.autograd.grad(plain, leaves, grad), strict=True
        ):
            torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


def test_depthwise_layers_are_taken_whatever_module_calls(taken: list[Any]) -> None:
    wide, narrow = nn.Conv2d(4, 4, 5, padding=2, groups=4), nn.Conv2d(4, 4, 3, padding=1, groups=4)
    same = Conv2dSame(4, 4, 5, stride=2, groups=4, bias=False)
    calls = [(wide, (9, 9)), (same, (9, 9)), (narrow, (2, 9)), (narrow, (9, 2))]
    for layer, sides in calls:
        x = map_of(2, 4, *sides)
        plain = layer(x)
        with FastConvolutions():
            assert torch.equal(layer(x), plain)
    assert len(taken) == len(calls)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("padding", [0, "same", "valid"])
def test_a_kernel_of_one_place_is_a_product(bias: bool, padding: Any, products: list[Any]) -> None:
    layer = nn.Conv2d(5, 7, 1, padding=padding, bias=bias).double()
    x = map_of(2, 5, 3, 4, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    leaves, plain = [x, *layer.parameters()], layer(x)
    with FastConvolutions():
        fast = layer(x)
    assert len(products) == 1
    assert fast.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(fast, plain, rtol=1e-12, atol=1e-12)
    grad = map_of(*plain.shape, dtype=torch.float64).to(memory_format=torch.channels_last)
    for own, other in zip(
        torch.autograd.grad(fast, leaves, grad), torch.autograd.grad(plain, leaves, grad), strict=True
    ):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


def test_everything_else_is_left_to_torch(taken: list[Any], products: list[Any]) -> None:
    x = map_of(2, 4, 9, 9)
    narrow, full = nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 5)
    same, apart = nn.Conv2d(4, 4, 5, groups=4, padding="same"), nn.Conv2d(4, 4, 5, groups=4, dilation=2)
    more = nn.Conv2d(4, 8, 5, groups=4)
    frozen = nn.Conv2d(4, 4, 5, groups=4).requires_grad_(False)
    with FastConvolutions():
        for layer in (narrow, full, same, apart, more, frozen):
            layer(x)
        wide = nn.Conv2d(4, 4, 5, groups=4)
        wide.double()(x.double())
        with torch.no_grad():
            wide.float()(x)
        nn.Conv2d(4, 4, 1)(x)  # lies channel after channel
        x = x.to(memory_format=torch.channels_last)
        nn.Conv2d(4, 4, 1, stride=2)(x)
        nn.Conv2d(4, 4, 1, padding=1)(x)
        nn.Conv2d(4, 4, 1, groups=2)(x)
        nn.Conv2d(4, 4, 1).requires_grad_(False)(x)
        with torch.no_grad():
            nn.Conv2d(4, 4, 1)(x)
    assert not taken
    assert not products


def test_a_training_step_comes_to_the_same_in_either_way() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 5, 2, 2, groups=8), nn.BatchNorm2d(8), nn.ReLU()
    )
    gradients = []
    for mode in (nullcontext(), FastConvolutions()):
        model.zero_grad()
        with mode:
            model(map_of(4, 3, 12, 12)).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for own, other in zip(*gradients, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("side", "kernel"), [(6, 5), (3, 5), (2, 3)])
def test_it_is_what_it_is_for(side: int, kernel: int) -> None:
    x = map_of(16, 384, side, side).to(memory_format=torch.channels_last).requires_grad_()
    weight, around = map_of(384, 1, kernel, kernel).requires_grad_(), kernel // 2

    def seconds(convolve: Callable[[], Tensor]) -> float:
        taken = []
        for _ in range(15):
            out = convolve()
            begun = time.perf_counter()
            torch.autograd.grad(out, [x, weight], torch.ones_like(out))
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken)

    plain = seconds(lambda: F.conv2d(x, weight, None, 1, around, 1, 384))
    fast = seconds(lambda: Depthwise.apply(x, weight, None, (1, 1), (around, around)))
    print(f"torch {plain * 1e3:.2f} ms, here {fast * 1e3:.2f} ms")
    assert fast < plain, "or there is nothing to be gained any more"


def test_the_gradient_of_a_pooled_map_lies_as_the_map_does() -> None:
    layouts = {}
    for name, mode in (("plain", nullcontext()), ("fast", FastConvolutions())):
        x = map_of(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
        map_ = x * 1
        with mode:
            loss = nn.AdaptiveAvgPool2d(1)(map_).square().sum()
        map_.register_hook(lambda grad, name=name: layouts.update({name: grad}))
        loss.backward()
    assert torch.equal(layouts["fast"], layouts["plain"])
    assert layouts["fast"].is_contiguous(memory_format=torch.channels_last)
    assert not layouts["plain"].is_contiguous(memory_format=torch.channels_last), "or there is nothing to do"
