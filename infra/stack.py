"""Make a ZenML stack what its file says, and the active one: `python -m infra.stack NAME`.

Components are code: the file is read again at any time, a second time changes nothing, and a changed file
changes the component in place. Secrets are not among it; `${NAME}` in a file is an environment variable.
"""

import os
import re
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from zenml.client import Client
from zenml.enums import StackComponentType
from zenml.models import ComponentResponse, FlavorUpdate
from zenml.stack.flavor import validate_flavor_source
from zenml.stack.utils import validate_stack_component_config

from steps.core.system.errors import ClusterError, HeadstartError
from steps.runtime.params import load_params

STACKS = Path(__file__).with_name("stacks")
PREFIX = "headstart-"
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class Component(BaseModel):
    """One part of a stack: what kind it is, and how it is set up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flavor: str
    configuration: dict[str, Any] = {}


class StackFile(BaseModel):
    """What a file in infra/stacks says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flavors: dict[StackComponentType, str] = {}
    """Kinds of components that this project brings itself: where their class is."""
    components: dict[StackComponentType, Component]


def fill(value: Any, environment: Mapping[str, str], missing: set[str]) -> Any:
    """Put variables into a value: `${NAME}` must be set, `${NAME:-word}` may be; collect what is missing."""
    if isinstance(value, dict):
        return {key: fill(inner, environment, missing) for key, inner in value.items()}
    if not isinstance(value, str):
        return value

    def found(match: re.Match[str]) -> str:
        name, default = match.groups()
        if not (word := environment.get(name) or default) and default is None:
            missing.add(name)
        return word or ""

    return VARIABLE.sub(found, value)


def read_stack(path: Path, environment: Mapping[str, str]) -> StackFile:
    """Read a stack's file; a setting that is left empty is not set.

    Raises:
        ClusterError: The file does not exist, has unknown keys, or names variables that are not set.
    """
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise ClusterError(f"{path} does not exist; there are {names}")
    missing: set[str] = set()
    content = fill(load_params(path), environment, missing)
    if missing:
        lines = "\n".join(f"  export {name}=..." for name in sorted(missing))
        raise ClusterError(f"{path} needs variables that are not set (the file says what each is):\n{lines}")
    for component in content.get("components", {}).values():
        kept = {k: v for k, v in component.get("configuration", {}).items() if v != ""}
        component["configuration"] = kept
    try:
        return StackFile.model_validate(content)
    except ValidationError as error:
        raise ClusterError(f"{path} is not a stack:\n{error}") from None


def apply_flavor(kind: StackComponentType, source: str) -> None:
    """Make one of our own kinds of components known to ZenML, as the class is today."""
    client = Client()
    _, flavor = validate_flavor_source(source=source, component_type=kind)
    known = client.list_flavors(name=flavor.name, type=kind).items
    if not known:
        client.create_flavor(source, kind)
    elif (known[0].source, known[0].config_schema) != (source, flavor.config_schema):
        update = FlavorUpdate(source=source, config_schema=flavor.config_schema)
        client.zen_store.update_flavor(known[0].id, update)


def apply_component(name: str, kind: StackComponentType, wanted: Component) -> tuple[ComponentResponse, str]:
    """Register a component or change it to what is wanted; return it, and what was done.

    Raises:
        ClusterError: One of that name has another flavor.
    """
    client = Client()
    found = client.list_stack_components(name=name, type=kind, hydrate=True).items
    if not found:
        return client.create_stack_component(name, wanted.flavor, kind, wanted.configuration), "registered"
    (component,) = found
    if component.flavor_name != wanted.flavor:
        raise ClusterError(
            f"{kind.value} {name} is a {component.flavor_name}, expected {wanted.flavor}: "
            f"zenml {kind.value.replace('_', '-')} delete {name}"
        )
    config = validate_stack_component_config(wanted.configuration, wanted.flavor, kind)
    # As ZenML would store it: some kinds of components add to what they are told.
    if config and component.configuration == config.model_dump(mode="json", exclude_unset=True):
        return component, "unchanged"
    gone = dict.fromkeys(component.configuration)  # None takes a key away
    changed = client.update_stack_component(
        component.id, kind, configuration={**gone, **wanted.configuration}
    )
    return changed, "changed"


def apply_stack(name: str, wanted: StackFile) -> list[str]:
    """Register or change everything, and make the stack the active one; return a line for each part."""
    client = Client()
    lines, parts = [], {}
    for kind, source in wanted.flavors.items():
        apply_flavor(kind, source)
    for kind, component in wanted.components.items():
        part, done = apply_component(name, kind, component)
        parts[kind] = part.id
        lines.append(f"{kind.value}: {component.flavor}, {done}")
    if not (found := client.list_stacks(name=name).items):
        client.create_stack(name, parts)
    else:
        has = {kind: [part.id for part in held] for kind, held in found[0].components.items() if held}
        if has != {kind: [part] for kind, part in parts.items()}:
            client.update_stack(found[0].id, component_updates={**{key: [] for key in has}, **parts})
    client.activate_stack(name)
    return lines


def choose(name: str) -> None:
    """Apply the stack's file, make it the active one, and say what was done."""
    try:
        lines = apply_stack(f"{PREFIX}{name}", read_stack(STACKS / f"{name}.yaml", os.environ))
    except (HeadstartError, ValueError) as error:  # ValueError: ZenML refuses a setting
        raise SystemExit(f"{type(error).__name__}: {error}") from None
    print("\n".join([*lines, f"{PREFIX}{name} is the active stack"]))


if __name__ == "__main__":
    sys.argv[1:1] = ["stack"]
    runpy.run_module("infra", run_name="__main__")
