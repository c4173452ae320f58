"""The learning rates that suit a kind of network, where nothing is searched; see docs/experiments.md."""

from typing import NamedTuple

from torch.nn.modules.batchnorm import _BatchNorm

from steps.core.backbones.network import Network


class UsualRates(NamedTuple):
    """Of AdamW, for a head that is at its optimum already."""

    head_lr: float
    ratio: float
    """Of a stage's rate to the next one's."""


CONVOLUTIONS = UsualRates(1e-4, 1.0)
ATTENTION = UsualRates(1e-4, 0.9)


def usual_rates(network: Network) -> UsualRates:
    """Return the rates of a network with BatchNorm or of one without, such as a transformer.

    Where BatchNorm follows a layer, the scale of its weights does not matter, and a step of a given size
    changes less, so earlier stages may learn as fast. Without it rates of 2e-5 to 5e-5 are usual for wide
    encoders (Devlin et al. 2019, "BERT"); narrow ones such as MiniLM do better with more.
    """
    has_norm = any(isinstance(module, _BatchNorm) for module in network.modules())
    return CONVOLUTIONS if has_norm else ATTENTION
