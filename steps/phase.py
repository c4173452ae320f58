"""A phase as its function's signature tells it: name, inputs, output, config, code.

This is the one definition that ZenML's steps, DVC's stages and the tests are made from.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from steps import PHASES, RETRAINING
from steps.config import Retraining, params_path, read_configs, shared
from steps.core.config import Config, Watched
from steps.core.storage import Artifact

ROOT = Path(__file__).resolve().parent.parent


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
        return imported(f"steps.{self.name}")

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
    """Build every phase's config, those of the retraining too; see `steps.config.read_configs`."""
    kinds: dict[str, type[Config]] = {
        name: load_phase(name).config for name in dict.fromkeys((*PHASES, *RETRAINING))
    }
    return read_configs({**kinds, "retraining": Retraining}, path or params_path())


def imported(module: str) -> list[str]:
    """Return the files of this project that `module` imports, directly or not, and its own."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        file = source_file(waiting.pop())
        if file is not None and file not in found:
            modules, files = mentioned(file)
            found.update((file, *files))
            waiting += modules
    return sorted(found)


@cache
def mentioned(file: str) -> tuple[list[str], list[str]]:
    """Return the modules that a file imports, and the project's files that its strings name."""
    modules, files = [], []
    for node in walk_code(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "/" in node.value:
            files += named_files(node.value)
    return modules, files


def walk_code(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a module, leaving out what only the type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        yield node
        yield from walk_code(node)


def named_files(text: str) -> list[str]:
    """Return the project's files that a string names: itself, or all in the folder of that name."""
    if "\n" in text or text.startswith("/") or not (ROOT / text).exists():
        return []
    paths = [ROOT / text] if (ROOT / text).is_file() else sorted((ROOT / text).glob("*.*"))
    return [path.relative_to(ROOT).as_posix() for path in paths]


@cache
def source_file(module: str) -> str | None:
    """Return the project's file of a module, relative to the root; None for everything else."""
    stem = module.replace(".", "/")
    for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
        if (ROOT / candidate).is_file():
            return candidate
    return None


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
