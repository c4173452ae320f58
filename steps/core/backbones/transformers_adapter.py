"""Text encoders of transformers as an ordered list of stages: the embeddings, then each layer.

What crosses a boundary is (n, t, c + 1): the tokens' vectors, and in the last channel 1 where there is a
token, 0 where a shorter sample is filled up. So a layer needs nothing but the output of the one before, and
vectors of the filling are zeros whatever the layer makes of them. The layers are the library's own.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from steps.core.backbones.network import Backbone
from steps.core.backbones.stages import Stage
from steps.core.system.errors import BackboneError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

BUILD_SEED = 0xB17D
NO_STATE = ("pooler.", "position_ids", "token_type_ids")
"""Beginnings or ends of names in a checkpoint that no stage has."""


class Family(NamedTuple):
    """Where an architecture keeps its parts, by the library's names."""

    embeddings: str
    layers: str
    prefix: str
    """Of the names in a checkpoint that was saved under a task's head."""


FAMILIES: Mapping[str, Family] = {
    "bert": Family("embeddings", "encoder.layer", "bert."),
    "roberta": Family("embeddings", "encoder.layer", "roberta."),
    "xlm-roberta": Family("embeddings", "encoder.layer", "roberta."),
    "camembert": Family("embeddings", "encoder.layer", "roberta."),
    "distilbert": Family("embeddings", "transformer.layer", "distilbert."),
}
"""By `model_type`; others' layers share weights (ALBERT) or take more than tokens and mask (DeBERTa)."""


class Embed(nn.Module):
    """Token numbers (n, t) to vectors with their mask (n, t, c + 1)."""

    def __init__(self, name: str, embeddings: nn.Module, padding: int, code: str) -> None:
        super().__init__()
        self.model = nested(name, embeddings)
        self.name, self.padding, self.code = name, padding, code

    def forward(self, numbers: Tensor) -> Tensor:
        """Embed; `padding` is the number of what fills up a shorter sample."""
        mask = (numbers != self.padding)[..., None].float()
        vectors = self.model.get_submodule(self.name)(input_ids=numbers)
        return torch.cat([vectors * mask, mask], dim=-1)


class Layer(nn.Module):
    """One layer of an encoder, (n, t, c + 1) to the same."""

    def __init__(self, name: str, layer: nn.Module, code: str) -> None:
        super().__init__()
        self.model = nested(name, layer)
        self.name, self.code = name, code

    def forward(self, x: Tensor) -> Tensor:
        """Let every token look at the tokens of its own sample."""
        mask = x[..., -1:]
        seen = (mask[..., 0] > 0)[:, None, None, :]
        found = self.model.get_submodule(self.name)(x[..., :-1], attention_mask=seen)
        vectors = found if isinstance(found, Tensor) else found[0]
        return torch.cat([vectors * mask, mask], dim=-1)


def nested(name: str, module: nn.Module) -> nn.Module:
    """Return a module in which `module` stands under a dotted name: weights keep the library's names."""
    outer, _, rest = name.partition(".")
    root = nn.Module()
    root.add_module(outer, nested(rest, module) if rest else module)
    return root


def load(name: str, facts: Mapping[str, Any], weights: str | None = None) -> Backbone:
    """Build an encoder from the facts of its config.json and cut it into stages.

    Args:
        name: For messages.
        facts: Of config.json.
        weights: A safetensors file under the library's names; None leaves the weights at random.

    Raises:
        BackboneError: The architecture is not one of FAMILIES, or the weights do not fit.
    """
    from transformers import AutoModel  # slow to import

    config = read_config(name, facts)
    family = FAMILIES[config.model_type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(BUILD_SEED)
        model: nn.Module = AutoModel.from_config(  # type: ignore[no-untyped-call]
            config, attn_implementation="sdpa"
        )
    if weights:
        fill(model, weights, name, family.prefix)
    code = json.dumps(config.to_dict(), sort_keys=True, default=str)
    embeddings = model.get_submodule(family.embeddings)
    parts: list[nn.Module] = [Embed(family.embeddings, embeddings, int(config.pad_token_id or 0), code)]
    for number, layer in enumerate(model.get_submodule(family.layers).children()):
        parts.append(Layer(f"{family.layers}.{number}", layer, code))
    return Backbone(name, [Stage(part) for part in parts], "masked")


def read_config(name: str, facts: Mapping[str, Any]) -> "PreTrainedConfig":
    """Return the library's config.

    Raises:
        BackboneError: The architecture is not one of FAMILIES.
    """
    from transformers import AutoConfig

    kind = str(facts.get("model_type"))
    if kind not in FAMILIES:
        raise BackboneError(
            f"backbone.name: {name} is of the architecture {kind!r}, which cannot be cut into stages; "
            f"expected one of {', '.join(FAMILIES)}"
        )
    own = {key: value for key, value in facts.items() if key not in ("model_type", "transformers_version")}
    return AutoConfig.for_model(kind, **own)


def fill(model: nn.Module, weights: str, name: str, prefix: str) -> None:
    """Take over a checkpoint's tensors.

    Raises:
        BackboneError: One is missing, or has another shape.
    """
    try:
        with safe_open(weights, framework="pt") as file:
            found = {plain_name(key, prefix): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BackboneError(f"backbone.weights: {weights} cannot be read: {error}") from None
    wanted = {key: x for key, x in model.state_dict().items() if not is_left_out(key)}
    unfit = [key for key, x in wanted.items() if key not in found or found[key].shape != x.shape]
    if unfit:
        raise BackboneError(
            f"backbone.weights: {weights} does not fit {name}: {len(unfit)} tensors are missing or of "
            f"another shape, among them {unfit[:3]}; take the weights of backbone.name, or name what they "
            "belong to"
        )
    model.load_state_dict({key: found[key].float() for key in wanted}, strict=False)


def plain_name(key: str, prefix: str) -> str:
    """Return a checkpoint's name as the encoder alone has it; old files say gamma and beta."""
    plain = key.removeprefix(prefix)
    return plain.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def is_left_out(key: str) -> bool:
    """Say whether a tensor belongs to no stage."""
    return key.startswith(NO_STATE[0]) or key.endswith(NO_STATE[1:])
