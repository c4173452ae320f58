"""A classifier as stages and a head, which can be entered at any stage boundary.

Boundary b lies before stage b: 0 is the input, `len(stages)` is the vector z that the head reads. Below the
freeze boundary nothing can change, so what comes out there may be computed once and kept.
"""

import copy
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from steps.core.backbones.readout import Layout, Readout, join, summarise
from steps.core.backbones.stages import ROOT, Stage
from steps.core.system.errors import ArtifactError, BackboneError, FrozenWeightsChanged

REMEDY = "run the phase that trained this model again"


class Backbone(NamedTuple):
    """A pretrained network as an adapter hands it over."""

    name: str
    stages: list[Stage]
    layout: Layout
    """Of what the stages put out."""


class Network(nn.Module):
    """Stages of a backbone, all or only the first ones, then the head's readout and a linear head."""

    def __init__(
        self,
        stages: Iterable[nn.Module],
        features: int,
        classes: int,
        layout: Layout,
        readout: Readout | None = None,
    ) -> None:
        """Put a head for `features` inputs on top; `layout` is that of the stages' outputs."""
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.layout: Layout = layout
        self.readout = readout or Readout.top(len(self.stages))
        self.head = nn.Linear(features, classes)

    @classmethod
    def build(cls, backbone: Backbone, example: Tensor, classes: int, readout: Readout | None = None) -> Self:
        """Put the stages of a backbone that a readout keeps under a head of zeros.

        A head of zeros starts at the loss ln(classes), the same whatever the random state.

        Args:
            backbone: Its stages become the network's.
            example: One sample at boundary 0 (1, ...), for the sizes.
            classes: Of the head.
            readout: None: the mean of the last stage.

        Raises:
            BackboneError: More stages are asked for than there are.
        """
        parts = backbone.stages
        readout = readout or Readout.top(len(parts))
        if not 1 <= readout.keep <= len(parts):
            raise BackboneError(
                f"{backbone.name} has {len(parts)} stages, {readout.keep} were asked for; {REMEDY}"
            )
        for part in parts:
            part.eval()
        stages = parts[: readout.keep]
        with torch.inference_mode():
            width = read_out(stages, readout, backbone.layout, example, 0).shape[1]
        network = cls(stages, width, classes, backbone.layout, readout)
        nn.init.zeros_(network.head.weight)
        nn.init.zeros_(network.head.bias)
        return network.eval().to(memory_format=torch.channels_last)

    def cut(self, keep: int, example: Tensor) -> Self:
        """Return the first `keep` stages, copied, under a head of zeros; `example` is as in `build`."""
        copies = [copy.deepcopy(stage) for stage in self.stages[:keep]]
        backbone = Backbone("this network", copies, self.layout)  # type: ignore[arg-type]
        found = type(self).build(backbone, example, self.head.out_features, self.readout.cut(keep))
        return found.to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    def run(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Take x from boundary `start` to boundary `stop`."""
        for stage in self.stages[start:stop]:
            x = stage(x)
        return x

    def embed(self, x: Tensor, start: int = 0) -> Tensor:
        """Take x from boundary `start` to the vector z that the head reads (n, features).

        Raises:
            BackboneError: The head reads a stage below `start` whose output is not x.
        """
        if start == len(self.stages):
            return join(summarise(x, self.layout, False))
        return read_out(list(self.stages), self.readout, self.layout, x, start)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Take x from boundary `start` to logits (n, classes)."""
        logits: Tensor = self.head(self.embed(x, start))
        return logits

    def architecture(self) -> str:
        """Hash what tells the stages of one architecture from another's: modules, forward passes, shapes."""
        forwards = [getattr(stage.graph, "code", "") for stage in self.stages]
        shapes = [[name, *tensor.shape] for name, tensor in self.stages.state_dict().items()]
        return hashlib.sha256(repr((self.stages, self.layout, forwards, shapes)).encode()).hexdigest()

    def freeze(self, boundary: int) -> None:
        """Freeze the stages below `boundary`; those above and the head may train."""
        for number, stage in enumerate(self.stages):
            stage.freeze(number < boundary)  # type: ignore[operator]

    def fix_statistics(self, fixed: bool) -> None:
        """Set whether the BatchNorms of stages that train keep the statistics they have."""
        for stage in self.stages:
            stage.fix_statistics(fixed)  # type: ignore[operator]

    def state(self) -> dict[str, Tensor]:
        """Return parameters and buffers under timm's own names (backbone.*) and head.*."""
        return {
            public_name(name): tensor.detach().cpu().contiguous().clone()
            for name, tensor in self.state_dict().items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned.

        Raises:
            ArtifactError: Names or shapes differ.
        """
        names = {public_name(name): name for name in self.state_dict()}
        if set(names) != set(state):
            differ = sorted(set(names) ^ set(state))
            raise ArtifactError(
                f"weights of another architecture: {len(differ)} names differ, {differ[:3]}; {REMEDY}"
            )
        try:
            self.load_state_dict({names[name]: tensor for name, tensor in state.items()})
        except RuntimeError as error:
            raise ArtifactError(f"weights of another architecture: {str(error)[:300]}; {REMEDY}") from None


def read_out(stages: Sequence[nn.Module], readout: Readout, layout: Layout, x: Tensor, start: int) -> Tensor:
    """Take x from boundary `start`, below the top, to the vector of a readout (n, features).

    Raises:
        BackboneError: A stage below `start` is read whose output is not x.
    """
    first, deviations = readout.first, readout.deviations
    if start > first + 1:
        raise BackboneError(f"the head reads stage {first}, which lies below boundary {start}; {REMEDY}")
    read = summarise(x, layout, deviations) if start == first + 1 else []
    for number in range(start, len(stages)):
        x = stages[number](x)
        if number >= first:
            read += summarise(x, layout, deviations)
    return join(read)


def public_name(name: str) -> str:
    """Turn the name inside the stage list into timm's own."""
    return re.sub(rf"^stages\.\d+\.graph\.{ROOT}\.", "backbone.", name)


def frozen_digest(network: Network, boundary: int, statistics: bool = False) -> str:
    """Hash every parameter and buffer below `boundary`, bit for bit; with `statistics` all buffers."""
    digest = hashlib.sha256()
    for number, stage in enumerate(network.stages):
        kept = stage.state_dict() if number < boundary else dict(stage.named_buffers()) if statistics else {}
        for name, tensor in sorted(kept.items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def assert_frozen(network: Network, boundary: int, before: str, statistics: bool = False) -> None:
    """Compare with the digest from before.

    Raises:
        FrozenWeightsChanged: Something below the boundary, or a fixed statistic above it, has changed.
    """
    if frozen_digest(network, boundary, statistics) != before:
        above = ", or a fixed statistic above it," if statistics else ""
        raise FrozenWeightsChanged(
            f"a parameter or buffer below stage {boundary}{above} changed while it was frozen"
        )
