"""Mixed precision that is one on a CPU too: products in bfloat16, and everything else in float32.

torch.autocast puts whole layers into half precision, norms and depthwise convolutions among them, for
which oneDNN has no good kernels: an epoch became a third longer. Dense convolutions and linear layers alone
are what a processor with bfloat16 instructions does in half the time. They multiply what has been rounded
to eight bits and add up in float32; weights, norms, activations, the head, the loss, the optimiser and
whatever is not differentiated, such as validation and the teacher, stay as they are (Micikevicius et al.
2018, with bfloat16's range, which needs no loss scaling).
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from steps.core.backbones.convolutions import Convolution
from steps.core.backbones.settings import Precision

NATIVE = ("avx512_bf16", "amx_bf16")  # of torch.cpu.get_capabilities


def uses_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Say whether trainings there multiply in bfloat16; `auto`: where that is faster."""
    return precision == "bfloat16" or (precision == "auto" and has_native_bfloat16(device.type))


@cache
def has_native_bfloat16(kind: str) -> bool:
    """Say whether a kind of device has instructions for bfloat16."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return kind == "cpu" and any(torch.cpu.get_capabilities().get(name) for name in NATIVE)


class BFloat16Products(TorchFunctionMode):
    """Within it, dense convolutions and linear layers that are differentiated multiply in bfloat16."""

    def __init__(self, head: Tensor) -> None:
        """Leave the layer whose weight is `head` alone: its answers are few, and are compared."""
        super().__init__()
        self.head = head

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer a call of torch."""
        if func in (F.conv2d, F.linear) and not kwargs and self.applies_to(*args[:2]):
            return (conv2d if func is F.conv2d else linear)(*args)
        return func(*args, **(kwargs or {}))

    def applies_to(self, x: Tensor, weight: Tensor) -> bool:
        """Say whether a layer is one of those."""
        floats = x.dtype == weight.dtype == torch.float32
        return floats and torch.is_grad_enabled() and weight is not self.head


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Do what torch.nn.functional.linear does."""
    return in_bfloat16(F.linear, x, weight, bias)


def conv2d(*args: Any) -> Tensor:
    """Do what torch.nn.functional.conv2d does; with several groups the very same."""
    call = Convolution(*args)
    return F.conv2d(*call) if call.groups > 1 else in_bfloat16(F.conv2d, *call)


def in_bfloat16(
    layer: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any
) -> Tensor:
    """Apply a layer in bfloat16 and return float32; so the gradients come back."""
    half = None if bias is None else bias.bfloat16()
    return layer(x.bfloat16(), weight.bfloat16(), half, *rest).float()
