"""A phase as its function's signature tells it: name, inputs, output, config, code.

This is the one definition that ZenML's steps, DVC's stages and the tests are made from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from steps import BATCH, PHASES, RETRAINING
from steps.core.system.code import imported_files
from steps.core.system.config import Config, Watched
from steps.core.system.storage import Artifact
from steps.runtime.params import Retraining, Serve, modality_packages, params_path, read_configs, shared


@dataclass(frozen=True)
class Phase:
    """One phase."""

    name: str
    function: Callable[..., Artifact]
    inputs: dict[str, type[Artifact]]
    output: str
    config: type[Config]

    @cached_property
    def code(self) -> list[str]:
        """The project's files that this phase's result depends on, found by following imports."""
        own = set(imported_files(f"steps.{self.name}"))
        return sorted(own.union(*(imported_files(f"{package}.modality") for package in modality_packages())))

    @cached_property
    def params(self) -> list[str]:
        """The keys of params.yaml that this phase's result depends on."""
        return sorted([self.name, *shared(self.config).values()])

    @cached_property
    def watched(self) -> list[str]:
        """The keys of params.yaml that name files which this phase's result depends on."""
        fields = self.config.model_fields.items()
        marked = (name for name, field in fields if any(isinstance(m, Watched) for m in field.metadata))
        return [f"{self.name}.{name}" for name in marked]


@cache
def load_phase(name: str) -> Phase:
    """Read a phase from `steps/<name>.py`.

    Raises:
        TypeError: The function's signature is no phase's.
    """
    function = getattr(import_module(f"steps.{name}"), name)
    hints = get_type_hints(function, include_extras=True)
    output = hints.pop("return", None)
    config = hints.pop("cfg", None)
    if get_origin(output) is not Annotated or config is None:
        raise TypeError(f'{name}: expected (artifact: Kind, ..., cfg: Config) -> Annotated[Kind, "name"]')
    return Phase(name, function, hints, get_args(output)[1], config)


def all_phases() -> list[Phase]:
    """Return every phase, in an order in which they can run."""
    return [load_phase(name) for name in PHASES]


def all_configs(path: Path | None = None) -> dict[str, Config]:
    """Build every section's config, retraining's and the server's too; see `steps.runtime.params`."""
    kinds: dict[str, type[Config]] = {
        name: load_phase(name).config for name in dict.fromkeys((*PHASES, *RETRAINING, *BATCH))
    }
    return read_configs({**kinds, "retraining": Retraining, "serve": Serve}, path or params_path())


def describe_config(cfg: Config) -> dict[str, Any]:
    """Flatten a config to dotted names, for the tracker."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        else:
            flat[prefix] = value

    walk("", cfg.model_dump())
    return flat
