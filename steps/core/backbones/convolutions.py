"""Convolutions that torch trains by a detour on a CPU, without it.

A kernel of one place is a matrix product of a map that lies place after place; taken as one, its forward
and its gradients are a seventh faster than oneDNN's convolution, and a third in bfloat16.

oneDNN has a kernel of its own for the weights' gradient of depthwise convolutions only up to three taps
in a row, and not where the map is smaller than the kernel, as in the last stages of small inputs. Others,
such as EfficientNet's 5x5 and ConvNeXt's 7x7, are computed as if sixteen channels at a time were mixed: some
ten times the work. So the row is taken three taps at a time, each part a narrow convolution over its own
columns of the input, and a low map is surrounded by the zeros that it is meant to lie in. With a stride of
one, the input's gradient is a forward pass with the kernel turned round.

The gradient that comes out of a pooled map lies in memory channel after channel, whatever the map does;
the layers before it then read it against its grain.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

MAX_TAPS = 3  # taps in a row that oneDNN's own kernel takes
Pair = tuple[int, int]


class FastConvolutions(TorchFunctionMode):
    """Within it, convolutions that will be differentiated take no detour; the sums are the same.

    Only the order differs in which they are added up, and all that is not on a CPU stays as it is.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer a call of torch."""
        if func is F.conv2d and not kwargs and (call := Convolution(*args)).is_trained_on_cpu():
            if call.is_pointwise():
                return as_matrix_product(*call[:3])
            if call.is_slow_depthwise():
                return Depthwise.apply(*call[:5])
        if func is F.adaptive_avg_pool2d and is_channels_last_input(args[0]):
            args[0].register_hook(channels_last_gradient)
        return func(*args, **(kwargs or {}))


def is_channels_last_input(x: Tensor) -> bool:
    """Say whether a pooled map's gradient would lie otherwise than the map."""
    return x.requires_grad and x.is_contiguous(memory_format=torch.channels_last)


def channels_last_gradient(grad: Tensor) -> Tensor:
    """Lay a gradient (n, c, h, w) out as the map has it of which it is."""
    return grad.contiguous(memory_format=torch.channels_last)


class Convolution(NamedTuple):
    """A call of torch.nn.functional.conv2d."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None = None
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1

    def is_trained_on_cpu(self) -> bool:
        """Say whether the weights will get a gradient on a CPU."""
        return self.weight.requires_grad and torch.is_grad_enabled() and self.x.device.type == "cpu"

    def is_pointwise(self) -> bool:
        """Say whether it sees one place at a time, of a map that lies place after place."""
        alone = self.weight.shape[2:] == (1, 1) and self.stride in (1, (1, 1)) and self.groups == 1
        bare = self.padding in (0, (0, 0), "valid", "same")
        return alone and bare and self.x.is_contiguous(memory_format=torch.channels_last)

    def is_slow_depthwise(self) -> bool:
        """Say whether it is depthwise and oneDNN would take the detour back."""
        x, weight = self.x, self.weight
        return (
            self.groups == x.shape[1] == weight.shape[0]
            and (
                weight.shape[3] > MAX_TAPS or is_lower_than_kernel(x, weight) or x.shape[3] < weight.shape[3]
            )
            and isinstance(self.stride, tuple)
            and isinstance(self.padding, tuple)  # not "same"
            and self.dilation == (1, 1)
            and x.dtype == weight.dtype == torch.float32
            and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        )


def as_matrix_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Do what conv2d does with x (n, c, h, w) and weight (k, c, 1, 1)."""
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def is_lower_than_kernel(x: Tensor, weight: Tensor) -> bool:
    """Say whether a map has fewer rows than the kernel."""
    return x.shape[2] < weight.shape[2]


class Depthwise(torch.autograd.Function):
    """torch.nn.functional.conv2d with one group per channel, and a gradient of its own."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair
    ) -> Tensor:
        """Convolve x (n, c, h, w) with weight (c, 1, kh, kw)."""
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias; there is none of these gradients."""
        x, weight = ctx.saved_tensors
        of = ctx.needs_input_grad
        by_x = input_gradient(grad, x, weight, ctx.stride, ctx.padding) if of[0] else None
        by_weight = weight_gradient(grad, x, weight, ctx.stride, ctx.padding) if of[1] else None
        return by_x, by_weight, grad.sum((0, 2, 3)) if of[2] else None, None, None


def input_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Return the loss's gradient by x, of x's shape."""
    rest = [size - 1 - around for size, around in zip(weight.shape[2:], padding, strict=True)]
    if stride != (1, 1) or min(rest) < 0:
        return torch_gradient(grad, x, weight, stride, padding, weights=False)
    return F.conv2d(grad, weight.flip(2, 3), None, 1, rest, 1, len(weight))


def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Return the loss's gradient by weight, of weight's shape, MAX_TAPS columns of the kernel at a time."""
    reach = (grad.shape[3] - 1) * stride[1]  # from a tap's first place to its last, in columns of x
    above, parts = padding[0], []
    if is_lower_than_kernel(x, weight):
        below = (grad.shape[2] - 1) * stride[0] + weight.shape[2] - above - x.shape[2]
        x, above = F.pad(x, (0, 0, above, max(below, 0))), 0
    for first in range(0, weight.shape[3], MAX_TAPS):
        part = weight[..., first : first + MAX_TAPS]
        last = first + part.shape[3] - 1
        # The columns that this part meets: zeros where x has none, and without those that it never sees.
        before, after = padding[1] - first, reach + last - padding[1] - (x.shape[3] - 1)
        zeros = (max(before, 0), max(after, 0))
        met = F.pad(x, zeros) if any(zeros) else x  # it would copy x even then
        met = met[..., max(-before, 0) : met.shape[3] - max(-after, 0)]
        parts.append(torch_gradient(grad, met, part, stride, (above, 0), weights=True))
    return torch.cat(parts, 3)


def torch_gradient(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, *, weights: bool
) -> Tensor:
    """Return torch's own gradient, by x or by the weights."""
    geometry = (list(stride), list(padding), [1, 1], False, [0, 0], len(weight))
    wanted = [not weights, weights, False]
    found = torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, wanted)
    gradient: Tensor = found[1] if weights else found[0]
    return gradient
