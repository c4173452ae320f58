"""Several processes that compute one result, through accelerate: who does what, and how they agree.

`torchrun` or `accelerate launch` starts them. All compute; the first, rank 0, alone writes artifacts
and checkpoints. Where there is one process alone, nothing here changes a bit or costs a collective.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import cache
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env, reduce
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from steps.core.backbones.network import Network
from steps.core.system.errors import ProcessError
from steps.core.system.ranks import rank_and_size

TIMEOUT = "HEADSTART_PROCESS_TIMEOUT"
DEFAULT_TIMEOUT_SECONDS = 1800.0  # of silence until a process that is there, and does not answer, is given up


@cache
def distributed_state() -> PartialState:
    """Meet the other processes, once."""
    wait = timedelta(seconds=float(os.environ.get(TIMEOUT, DEFAULT_TIMEOUT_SECONDS)))
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    with peer_errors():
        state = PartialState(cpu=cpu, timeout=wait)
    if (found := int(state.num_processes)) != (wanted := rank_and_size()[1]):
        raise ProcessError(
            f"{wanted} processes were launched, and accelerate sees {found}: start them by torchrun or by "
            "accelerate launch"
        )
    return state


@contextmanager
def peer_errors() -> Iterator[None]:
    """Raise ProcessError where another process does not answer."""
    try:
        yield
    except RuntimeError as error:  # torch has no class of its own for a connection that was closed
        where = "process {} of {}".format(*rank_and_size())
        raise ProcessError(
            f"{where} waited for another process that has ended or does not answer: look for the first error "
            f"in their output, then start all of them again; finished shards and epochs are kept. "
            f"({str(error).splitlines()[0][:160]})"
        ) from None


def process_count() -> int:
    """Return the number of processes."""
    return int(distributed_state().num_processes)


def rank() -> int:
    """Return this process's number, from 0."""
    return int(distributed_state().process_index)


def is_main_process() -> bool:
    """Say whether this process is the one that writes."""
    return rank() == 0


def device() -> torch.device:
    """Return where this process computes."""
    place: torch.device = distributed_state().device
    return place


def on_device(network: Network) -> Network:
    """Put a network into evaluation mode, and where this process computes."""
    if network.device.type != device().type:
        with torch.inference_mode(False):  # what moves within that mode can never train again
            network.to(device())
    return network.eval()


def describe_device() -> str:
    """Name the hardware that the last bits of a result depend on."""
    place = device()
    if place.type == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return f"{place.type} {torch.get_device_module(place).get_device_name(place)}"


def wait_for_all() -> None:
    """Go on when all processes have come here."""
    with peer_errors():
        distributed_state().wait_for_everyone()


def sum_over_processes(x: Tensor) -> Tensor:
    """Sum a tensor over all processes."""
    with peer_errors():
        summed: Tensor = reduce(x.contiguous(), "sum")
    return summed


def assert_equal_everywhere(what: str, value: str, remedy: str) -> None:
    """Raise ProcessError unless all processes hold the same value."""
    if process_count() == 1:
        return
    table = torch.zeros(process_count(), 32, dtype=torch.int64, device=device())
    table[rank()] = torch.tensor(list(hashlib.sha256(value.encode()).digest()))
    table = sum_over_processes(table)
    if (table != table[0]).any():
        raise ProcessError(f"the processes differ in {what}, found {value} in process {rank()}: {remedy}")


def local_slice(size: int) -> slice:
    """Return which samples of a batch are this process's: all, where there are too few for everyone."""
    if size < process_count():
        return slice(0, size)
    return slice(size * rank() // process_count(), size * (rank() + 1) // process_count())


def gather_batch(part: Tensor, size: int) -> Tensor:
    """Put the parts that all processes have of a batch of `size` together again, in order."""
    if len(part) == size:
        return part
    whole = part.new_zeros(size, *part.shape[1:])
    whole[local_slice(size)] = part
    return sum_over_processes(whole)


def gather_interleaved(parts: list[Tensor], step: int, size: int, width: int) -> Tensor:
    """Put together what the processes made of every count()-th batch of `step` rows: (size, width)."""
    if process_count() == 1:
        return torch.cat(parts)
    whole = torch.zeros(size, width, device=device())
    for number, part in enumerate(parts):
        first = (rank() + number * process_count()) * step
        whole[first : first + step] = part
    return sum_over_processes(whole).cpu()


def backward(
    accelerator: Accelerator,
    optimizer: torch.optim.Optimizer,
    network: Network,
    part: int,
    size: int,
    loss: Callable[[], Tensor],
) -> float:
    """Leave the gradient of a whole batch's mean loss in the parameters; return that loss, in nats.

    No DistributedDataParallel: it averages over processes, this over samples, so that a last short
    batch counts for what it is; and BatchNorm sees the whole batch, as it does in one process. Where
    a batch has fewer samples than there are processes, all compute all of it.

    Args:
        accelerator: Scales where precision is mixed.
        optimizer: Forgets the gradient of the step before once the loss is known.
        network: What trains.
        part: This process's samples.
        size: All samples of the batch.
        loss: Computes the mean over the part.
    """
    if process_count() == 1:
        alone = loss()
        optimizer.zero_grad()
        accelerator.backward(alone)
        return alone.item()
    shared = size >= process_count()
    with JointBatchNorm(size) if shared else nullcontext():
        weighed = loss() * (part / size if shared else 1 / process_count())
        optimizer.zero_grad()
        accelerator.backward(weighed)
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    flat = sum_over_processes(torch.cat([*(grad.flatten() for grad in grads), weighed.detach().view(1)]))
    *sums, mean = torch.split(flat, [*(grad.numel() for grad in grads), 1])
    for grad, summed in zip(grads, sums, strict=True):
        grad.copy_(summed.view_as(grad))
    return float(mean)


class JointBatchNorm(TorchFunctionMode):
    """Gives BatchNorm, in training, the statistics of a whole batch of which each process has a part.

    torch's SyncBatchNorm is for GPUs only; this is one rule on every device, and no module of the
    network has to be another one.
    """

    def __init__(self, size: int) -> None:
        """Expect batches of `size` samples, over all processes."""
        super().__init__()
        self.size = size

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer a call of torch."""
        named = kwargs or {}
        if func is F.batch_norm and named.get("training"):
            return self.normalise(*args, **named)
        return func(*args, **named)

    def normalise(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = True,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """Do what torch.nn.functional.batch_norm does; x (n, channels, ...)."""
        axes, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
        seen = self.size * x[0, 0].numel()
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # sums in half precision would overflow
        mean: Tensor = SumOverProcesses.apply(wide.sum(axes)) / seen
        apart = wide - mean.view(shape)
        var: Tensor = SumOverProcesses.apply(apart.square().sum(axes)) / seen
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.detach(), momentum)
            running_var.lerp_(var.detach() * (seen / max(seen - 1, 1)), momentum)
        y = apart * (var + eps).rsqrt().view(shape)
        y = y if weight is None else y * weight.view(shape)
        return (y if bias is None else y + bias.view(shape)).to(x.dtype)


class SumOverProcesses(torch.autograd.Function):
    """A sum over all processes through which gradients flow back to all of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Sum x."""
        return sum_over_processes(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Every process's loss depends on every process's x."""
        return sum_over_processes(grad)
