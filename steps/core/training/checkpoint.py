"""A training between two epochs, on disk: after a kill at most one epoch is trained again.

All of it is tensors and numbers, so it is a safetensors file and nothing that could run.
"""

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steps.core.backbones.network import Network
from steps.core.system.checksummed import load_checked, with_checksum
from steps.core.system.storage import write_file

SYNC_SECONDS = 1.0  # between two waits for the disk, at least: an epoch of a head takes a few milliseconds
FACTS = "facts"


@dataclass(frozen=True)
class Snapshot:
    """A training after an epoch, all by itself: going on from it gives the same bits as never stopping."""

    network: dict[str, Tensor]
    """Parameters and buffers that training can change."""
    moments: dict[str, Tensor]
    """The optimiser's state, by number of the parameter and name."""
    rates: list[float]
    """Each parameter group's learning rate for the next step."""


@dataclass
class Checkpoint:
    """One file, written anew after an epoch."""

    path: Path
    written: float = field(default=-math.inf)

    def save(self, now: Snapshot, best: dict[str, Tensor], history: list[dict[str, Any]]) -> None:
        """Write the state; a kill can take no epoch back, and a power cut a second's."""
        parts = {"network": now.network, "moments": now.moments, "best": best}
        tensors = {f"{part}/{name}": x for part, found in parts.items() for name, x in found.items()}
        facts = json.dumps({"rates": now.rates, "history": history})
        due = time.monotonic() - self.written >= SYNC_SECONDS
        write_file(self.path, with_checksum(tensors, {FACTS: facts}), durable=due)
        if due:
            self.written = time.monotonic()

    def load(self) -> tuple[Snapshot, dict[str, Tensor], list[dict[str, Any]]] | None:
        """Read the state, the best weights and the curve; None if there are none to go on from."""
        if (found := load_checked(self.path)) is None:
            return None
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "moments": {}, "best": {}}
        for key, x in found[0].items():
            part, _, name = key.partition("/")
            parts[part][name] = x
        facts = json.loads(found[1][FACTS])
        now = Snapshot(parts["network"], parts["moments"], facts["rates"])
        return now, parts["best"], facts["history"]


def trainable_state(network: Network) -> dict[str, Tensor]:
    """Return the parameters and buffers that are not frozen."""
    frozen = tuple(f"stages.{number}." for number, stage in enumerate(network.stages) if stage.frozen)
    return {name: x for name, x in network.state_dict().items() if not name.startswith(frozen)}


def take_snapshot(network: Network, optimizer: torch.optim.Optimizer) -> Snapshot:
    """Copy what an epoch has left behind."""
    state = optimizer.state_dict()["state"]
    moments = {f"{n}/{name}": x.clone() for n, found in state.items() for name, x in found.items()}
    changed = {name: x.clone() for name, x in trainable_state(network).items()}
    return Snapshot(changed, moments, [float(group["lr"]) for group in optimizer.param_groups])


def restore_snapshot(snapshot: Snapshot, network: Network, optimizer: torch.optim.Optimizer) -> None:
    """Go back to a snapshot; moments keep the memory layout of their parameters, as kernels expect."""
    network.load_state_dict(snapshot.network, strict=False)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, x in snapshot.moments.items():
        number, _, name = key.partition("/")
        like = parameters[int(number)]
        same = x.shape == like.shape and x.ndim
        laid = torch.empty_like(like).copy_(x) if same else x.to(like.device, copy=True)
        state.setdefault(int(number), {})[name] = laid
    for place, found in state.items():
        optimizer.state[parameters[place]] = found
    for group, rate in zip(optimizer.param_groups, snapshot.rates, strict=True):
        group["lr"] = rate
