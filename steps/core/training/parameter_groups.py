"""Parameter groups for discriminative learning rates (Howard and Ruder 2018, "ULMFiT")."""

from itertools import accumulate
from operator import mul
from typing import Any

from torch import nn

from steps.core.backbones.network import Network
from steps.core.system.errors import TrainingError

Ratio = float | list[float]
"""Learning rate of a stage over that of the next: one for all, or one per boundary, the last first."""


def stage_rates(head_lr: float, ratio: Ratio, depth: int) -> list[float]:
    """Return the rate of each of `depth` stages, earliest first: head_lr times the ratios above it.

    Raises:
        TrainingError: A ratio is not in (0, 1], or their number is not `depth`.
    """
    given = [ratio] if isinstance(ratio, int | float) else ratio
    for value in given:
        if not 0 < value <= 1:
            raise TrainingError(f"ratio {value} is not in (0, 1]: an earlier stage may not learn faster")
    ratios = given * depth if isinstance(ratio, int | float) else given
    if len(ratios) != depth:
        raise TrainingError(f"{len(ratios)} ratios for {depth} trained stages: one is needed for each")
    return list(accumulate(ratios, mul, initial=head_lr))[:0:-1]


def parameter_groups(
    network: Network, boundary: int, head_lr: float, ratio: Ratio, weight_decay: float
) -> list[dict[str, Any]]:
    """Return optimiser groups, earliest stage first and the head last.

    Norms and biases, whatever has fewer than two dimensions, are not decayed.

    Raises:
        TrainingError: A trainable parameter would be in no group, or in two.
    """
    trained = list(network.stages[boundary:])
    rates = [*stage_rates(head_lr, ratio, len(trained)), head_lr]
    names = [*(f"stage{boundary + i}" for i in range(len(trained))), "head"]
    groups: list[dict[str, Any]] = []
    for name, module, rate in zip(names, [*trained, network.head], rates, strict=True):
        for decay in (True, False):
            parameters = [p for p in module.parameters() if p.requires_grad and (p.ndim > 1) is decay]
            if parameters:
                groups.append(
                    {
                        "name": name if decay else f"{name}/no_decay",
                        "params": parameters,
                        "lr": rate,
                        "weight_decay": weight_decay if decay else 0.0,
                    }
                )
    assert_covered(network, groups)
    return groups


def assert_covered(network: nn.Module, groups: list[dict[str, Any]]) -> None:
    """Raise TrainingError unless every trainable parameter is in exactly one group."""
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    wanted = {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    if len(grouped) != len(set(grouped)) or set(grouped) != wanted:
        raise TrainingError(
            f"{len(wanted)} trainable parameters, {len(grouped)} places in groups: "
            "every one must be in exactly one"
        )
