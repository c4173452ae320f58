"""Which of the project's files a result depends on: found by following imports, never listed by hand."""

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MODULE = re.compile(r"steps(\.\w+)+")


def imported_files(module: str) -> list[str]:
    """Return the files of this project that `module` imports, directly or not, and its own."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        file = source_file(waiting.pop())
        if file is not None and file not in found:
            modules, files = references_of(file)
            found.update((file, *files))
            waiting += modules
    return sorted(found)


@cache
def references_of(file: str) -> tuple[list[str], list[str]]:
    """Return the modules that a file imports or names, and the project's files that its strings name."""
    modules, files = [], []
    for node in walk_code(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if "/" in node.value:
                files += named_files(node.value)
            elif MODULE.fullmatch(node.value):
                modules.append(node.value)  # imported by its name, as a registry does
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


@cache
def code_digest(*modules: str, without: str | None = None) -> str:
    """Hash the files that modules depend on, except those in the folder `without`."""
    digest = hashlib.sha256()
    for file in sorted({file for module in modules for file in imported_files(module)}):
        if without is None or not file.startswith(without):
            digest.update(f"{file}\n".encode() + (ROOT / file).read_bytes())
    return digest.hexdigest()
