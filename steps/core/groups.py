"""Parameter groups for discriminative learning rates (Howard and Ruder 2018, "ULMFiT")."""

from typing import Any

from torch import nn

from steps.core.errors import TrainingError
from steps.core.network import Network


def stage_rates(head_lr: float, ratio: float, depth: int) -> list[float]:
    """Return the rate of each of `depth` stages, earliest first: head_lr * ratio ** distance."""
    if not 0 < ratio <= 1:
        raise TrainingError(f"ratio {ratio} is not in (0, 1]: an earlier stage may not learn faster")
    return [head_lr * ratio**distance for distance in range(depth, 0, -1)]


def parameter_groups(
    network: Network, boundary: int, head_lr: float, ratio: float, weight_decay: float
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
