"""Any timm model as an ordered list of stages, each a function of the one before.

The model is traced with torch.fx and cut where one of timm's own parameter groups ends and the next
begins (`group_matcher(coarse=True)`: stem, blocks, ...; what follows the last block, such as
EfficientNet's conv_head, belongs to the last block's group). The last stage ends in the pooled
vector. So no part of the network can lie, forgotten and frozen, between trained stages and head.
"""

import difflib
import sys
from collections.abc import Mapping
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from timm.layers import get_notrace_functions, get_notrace_modules
from timm.models import group_parameters
from torch import Tensor, fx, nn

from steps.core.backbones.network import Backbone
from steps.core.backbones.readout import Layout
from steps.core.backbones.stages import ROOT, Stage
from steps.core.system.errors import BackboneError

BUILD_SEED = 0xB17D  # unlike the small numbers that weights are likely to be made from


class Pooled(nn.Module):
    """A timm model up to the vector that a classifier reads."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, height, width) to vectors (n, features)."""
        pooled: Tensor = self.model.forward_head(self.model.forward_features(x), pre_logits=True)
        return pooled


class _Tracer(fx.Tracer):
    """Traces down to modules whose parameters all belong to one stage."""

    def __init__(self, owner: Mapping[str, int]) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        self.owner = owner
        self.leaves = tuple(get_notrace_modules())

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name in self.owner or isinstance(m, self.leaves):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def load(name: str, side: int, weights: str | None = None) -> Backbone:
    """Build a timm model for inputs (n, 3, side, side) and cut it into stages; see `create` and `split`.

    Raises:
        BackboneError: Unknown name, unfit weights, or a model that is no chain of stages.
    """
    model = create(name, side, weights)
    layout: Layout = "channels_last" if getattr(model, "output_fmt", "NCHW") == "NHWC" else "channels_first"
    return Backbone(name, split(model), layout)


def similar(name: str) -> list[str]:
    """Return names that timm knows and that are written almost like this one."""
    return difflib.get_close_matches(name, timm.list_models(), n=8, cutoff=0.5)


def create(name: str, image_size: int | None, weights: str | None = None) -> Any:
    """Build a timm model without classifier, with `weights` from a safetensors file.

    Raises:
        BackboneError: timm does not know the name, or the weights are of another architecture.
    """
    if not timm.is_model(name):
        raise BackboneError(f"backbone.name: timm knows no {name!r}; similar: {similar(name)}")
    # Only transformers are built for one input size; timm then interpolates their positions.
    size = {"img_size": image_size} if image_size and takes_img_size(name) else {}
    try:
        if weights:
            assert_complete(weights, name)
        model = build_seeded(name, weights, **size)
        if weights:
            assert_loaded(model, build_seeded(name, None, **size))
        return model
    except (RuntimeError, KeyError, ValueError, OSError, SafetensorError) as error:
        raise BackboneError(
            f"backbone.weights: {weights} does not fit {name}: {str(error)[:300]}; take the weights of "
            "backbone.name, or name the backbone they belong to"
        ) from None


def assert_complete(weights: str, name: str) -> None:
    """Raise KeyError where a file lacks tensors of the model: timm would leave them at random.

    A file in a naming that timm translates while loading has none of the model's own names.
    """
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0).state_dict()
    with safe_open(weights, framework="pt") as file:
        found = {key.removeprefix("module.") for key in file.keys()}  # noqa: SIM118 # no mapping; timm strips it
    missing = sorted(key for key in model if key not in found and "num_batches_tracked" not in key)
    if missing and len(missing) < len(model):
        raise KeyError(f"{len(missing)} tensors are missing, among them {missing[:3]}")


def build_seeded(name: str, weights: str | None, **size: int) -> Any:
    """Build a timm model from the same random numbers every time, and load `weights` if given."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(BUILD_SEED)
        return timm.create_model(
            name,
            pretrained=weights is not None,
            pretrained_cfg_overlay={"file": weights, "hf_hub_id": None} if weights else None,
            num_classes=0,
            **size,
        )


def assert_loaded(model: nn.Module, blank: nn.Module) -> None:
    """Raise KeyError for a tensor that is still as random as in a model without weights."""
    before = dict(blank.named_parameters())
    untouched = [
        key
        for key, tensor in model.named_parameters()
        if tensor.ndim > 1 and torch.equal(tensor, before[key]) and tensor.std() > 0
    ]
    if untouched:
        raise KeyError(f"{len(untouched)} tensors were not found, among them {untouched[:3]}")


def takes_img_size(name: str) -> bool:
    """Say whether the architecture's shape depends on the image size."""
    pretrained = timm.get_pretrained_cfg(name)
    return bool(pretrained and pretrained.fixed_input_size)


def split(model: Any) -> list[Stage]:
    """Cut a timm model into its stages; the modules are shared, not copied.

    Raises:
        BackboneError: The model cannot be traced, or is no chain of stages.
    """
    root = Pooled(model)
    stage_of = {f"{ROOT}.{name}": number for name, number in number_parameters(model).items()}
    owner = {
        name: stages.pop()
        for name, module in root.named_modules()
        if name and len(stages := {stage_of[f"{name}.{p}"] for p, _ in module.named_parameters()}) == 1
    }
    try:
        graph = _Tracer(owner).trace(root)
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise BackboneError(
            f"{type(model).__name__} cannot be cut into stages: {error}; choose another backbone"
        ) from None
    return [Stage(fx.GraphModule(root, part)) for part in cut(graph, owner, max(stage_of.values()) + 1)]


def number_parameters(model: Any) -> dict[str, int]:
    """Return the stage of every parameter.

    A group of norms alone, such as ConvNeXt's last, is no stage of its own: to unfreeze "the last
    stage" would train next to nothing. It belongs to the one before.
    """
    groups = group_parameters(model, model.group_matcher(coarse=True))
    parameters = dict(model.named_parameters())
    stage_of: dict[str, int] = {}
    number = -1
    for _, names in sorted(groups.items()):
        if number < 0 or any(parameters[name].ndim > 1 for name in names):
            number += 1
        stage_of.update(dict.fromkeys(names, number))
    return stage_of


def cut(graph: fx.Graph, owner: Mapping[str, int], count: int) -> list[fx.Graph]:
    """Divide a graph into `count` graphs, each with one input and one output."""
    stage: dict[fx.Node, int] = {}
    for node in graph.nodes:
        own = owner.get(str(node.target), 0) if node.op == "call_module" else 0
        stage[node] = max([own, *(stage[before] for before in node.all_input_nodes)])
    result = next(node for node in graph.nodes if node.op == "output").all_input_nodes[0]
    enters = next(node for node in graph.nodes if node.op == "placeholder")
    parts = []
    for number in range(count):
        inner = [n for n in graph.nodes if stage[n] == number and n.op.startswith("call_")]
        leaves = [n for n in inner if n is result or any(stage[user] > number for user in n.users)]
        if not leaves:
            raise BackboneError(f"stage {number} has no output; choose another backbone")
        parts.append(copy_nodes(inner, enters, leaves[-1]))
        enters = leaves[-1]
    return parts


def copy_nodes(nodes: list[fx.Node], enters: fx.Node, leaves: fx.Node) -> fx.Graph:
    """Return a graph of `nodes`, whose input stands for `enters` and whose output is `leaves`."""
    part = fx.Graph()
    copies = {enters: part.placeholder("x")}

    def copied(node: fx.Node) -> fx.Node:
        if node not in copies:
            if node.op != "get_attr":
                raise BackboneError(f"two values cross a stage boundary ({node}): not a chain")
            copies[node] = part.node_copy(node)
        return copies[node]

    for node in nodes:
        copies[node] = part.node_copy(node, copied)
    part.output(copies[leaves])
    return part


def main(name: str) -> None:
    """Print the stages of a backbone with their parameters."""
    with torch.device("meta"):
        for number, part in enumerate(split(create(name, None))):
            print(f"stage {number}: {sum(p.numel() for p in part.parameters()):>12,} parameters")


if __name__ == "__main__":
    main(sys.argv[1])
