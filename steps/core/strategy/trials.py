"""One training of the search: rates and a seed in, a curve and the trained stages out.

What came out is kept on disk under a name made of all that went in, so after a restart, and for the
soup at the end, no finished training is repeated.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from steps.core.backbones.network import Network, public_name
from steps.core.features.batches import Batches
from steps.core.system.checksummed import load_checked, with_checksum
from steps.core.system.errors import DiskError, Diverged
from steps.core.system.storage import write_file
from steps.core.training.loop import Epoch, fit
from steps.core.training.objectives import Classify, class_weights
from steps.core.training.parameter_groups import Ratio, parameter_groups
from steps.core.training.recipe import Recipe

LOGITS, LOSSES = "val_logits", "val_losses"


@dataclass(frozen=True)
class Rates:
    """What a trial tries."""

    head_lr: float
    ratio: Ratio
    weight_decay: float

    def for_depth(self, depth: int) -> Ratio:
        """Return the ratios of the last `depth` boundaries."""
        return self.ratio if isinstance(self.ratio, int | float) else self.ratio[:depth]


@dataclass(frozen=True)
class Run:
    """A training that came to its end, with the weights of its best epoch."""

    rates: Rates
    val_losses: list[float]
    state: dict[str, Tensor]
    """Parameters and buffers above the cache's boundary, under the network's public names."""
    val_logits: Tensor
    """Shape (validation samples, classes), of the best epoch."""

    @property
    def val_loss(self) -> float:
        """The least validation loss, in nats; infinite where the training diverged."""
        return min(self.val_losses, default=math.inf)


@dataclass(frozen=True)
class Trials:
    """Trains with given rates, each time from the same warmed-up network."""

    network: Network
    boundary: int
    batches: Batches
    recipe: Recipe
    epochs: int
    folder: Path
    """Where finished runs are kept; its name says all that they have in common."""

    def __call__(self, rates: Rates, seed: int | None = None, unfreeze: int | None = None) -> Iterator[Epoch]:
        """Yield the epochs of one training, and keep its best weights when all are done.

        `seed` orders the samples and their views; None is the phase's own. `unfreeze` trains fewer
        stages than lie above the cache's boundary.

        Raises:
            Diverged: See `fit`.
        """
        network = deepcopy(self.network)
        boundary = self.boundary if unfreeze is None else len(network.stages) - unfreeze
        network.freeze(boundary)
        recipe = self.recipe.model_copy(update={"epochs": self.epochs})
        batches = self.batches if seed is None else replace(self.batches, seed=seed)
        ratio = rates.for_depth(len(network.stages) - boundary)
        groups = parameter_groups(network, boundary, rates.head_lr, ratio, rates.weight_decay)
        task = Classify(recipe, class_weights(recipe, batches))
        losses: list[float] = []
        best: dict[str, Tensor] = {}
        for epoch in fit(network, task, batches, recipe, groups):
            losses.append(epoch.val_loss)
            if epoch.val_loss == min(losses):
                best = {**self.trained_state(network), LOGITS: epoch.val_logits}
            yield epoch
        kept = {**best, LOSSES: torch.tensor(losses, dtype=torch.float64)}
        write_file(self.path(rates, seed, unfreeze), with_checksum(kept))

    def trained_state(self, network: Network) -> dict[str, Tensor]:
        """Copy what lies above the cache's boundary."""
        above = tuple(f"stages.{i}." for i in range(self.boundary, len(network.stages)))
        return {
            public_name(name): tensor.detach().clone().contiguous()
            for name, tensor in network.state_dict().items()
            if name.startswith((*above, "head."))
        }

    def run(self, rates: Rates, seed: int | None = None, unfreeze: int | None = None) -> Run:
        """Return a finished training, from disk if it is there; an empty one if it diverges."""
        path = self.path(rates, seed, unfreeze)
        if (kept := load_checked(path)) is None:
            try:
                for _ in self(rates, seed, unfreeze):
                    pass
            except Diverged:
                return Run(rates, [], {}, Tensor())
            kept = load_checked(path)
        if kept is None:
            raise DiskError(f"{path} is not what was just written there: check the disk that holds it")
        tensors = kept[0]
        losses, logits = tensors.pop(LOSSES), tensors.pop(LOGITS)
        return Run(rates, losses.tolist(), tensors, logits)

    def path(self, rates: Rates, seed: int | None, unfreeze: int | None) -> Path:
        """Return the file of one run."""
        key = json.dumps([asdict(rates), seed, unfreeze, self.epochs])
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"

    def with_state(self, state: dict[str, Tensor]) -> Network:
        """Return the network with other weights above the boundary."""
        network = deepcopy(self.network)
        network.load_state({**network.state(), **state})
        return network
