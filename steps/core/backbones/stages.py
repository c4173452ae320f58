"""One stage of a backbone: a function of the stage before, which can be frozen for good."""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

ROOT = "model"  # parameters of a stage are named model.<the model's own name>


class Stage(nn.Module):
    """A stage that stays in evaluation mode while it is frozen, whatever its parent is told."""

    def __init__(self, graph: nn.Module) -> None:
        """Take what maps x to x; its modules stand below an attribute that is called ROOT."""
        super().__init__()
        self.graph = graph
        self.frozen = False
        self.fixed_statistics = False

    def freeze(self, frozen: bool) -> None:
        """Set whether this stage may change: parameters, BatchNorm statistics and dropout."""
        self.frozen = frozen
        self.requires_grad_(not frozen)
        self.train(self.training)

    def fix_statistics(self, fixed: bool) -> None:
        """Set whether BatchNorms keep and use the statistics they have, while their weights may train."""
        self.fixed_statistics = fixed
        self.train(self.training)

    def train(self, mode: bool = True) -> "Stage":
        """Enter training mode, unless frozen; BatchNorms of fixed statistics stay in evaluation mode."""
        if self.frozen and not self.training:
            return self  # nothing to walk through: an epoch of a head takes a few milliseconds in all
        super().train(mode and not self.frozen)
        if self.training and self.fixed_statistics:
            for norm in self.modules():
                if isinstance(norm, _BatchNorm):
                    norm.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Map the output of the stage before to this stage's."""
        out: Tensor = self.graph(x)
        return out
