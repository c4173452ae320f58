"""What a phase may be told: one frozen model per phase, filled from its section of params.yaml."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from steps.core.system.config import Config, Count, Positive
from steps.core.system.errors import ParamsError
from steps.core.system.secrets import mask

MAX_BYTES, MAX_NODES = 1_000_000, 100_000  # of a parameter file, and the values that it stands for
PARAMS_FILE = "HEADSTART_PARAMS"
DATA_FOLDER = "HEADSTART_DATA"


@dataclass(frozen=True)
class From:
    """Marks a field whose value is owned by another place in params.yaml, as a dotted path."""

    path: str


class Retraining(Config):
    """When the retraining pipeline runs; see `infra.retrain`."""

    cron: str
    """Minute, hour, day of the month, month, day of the week."""
    timezone: str
    """Name in the IANA database, in which `cron` is meant."""
    check_minutes: Annotated[int, Field(ge=1, le=59)]
    """Minutes between two checks whether it is due."""

    @field_validator("cron")
    @classmethod
    def is_cron(cls, cron: str) -> str:
        """Refuse what cannot be read."""
        from croniter import croniter

        if len(cron.split()) != 5 or not croniter.is_valid(cron):
            raise ValueError('five fields of cron, such as "0 3 * * *"')
        return cron

    @field_validator("timezone")
    @classmethod
    def is_zone(cls, name: str) -> str:
        """Refuse what this machine does not know."""
        if name not in available_timezones():
            raise ValueError("a time zone such as Europe/Zurich or UTC")
        return name


class Serve(Config):
    """What a server of the champion takes; see `infra.serving`."""

    max_megabytes: Positive
    """Of a request's body."""
    max_rows: Count
    """Samples of a request."""
    max_size: Count
    """Sum, over a request's samples, of the product of a sample's sizes."""
    workers: Count
    """Requests that are answered at once."""
    queue: Annotated[int, Field(ge=0)]
    """Requests that may wait for that; more are told to try again."""
    connections: Count
    """Connections that may be open."""
    read_seconds: Positive
    """In which the headers must arrive, and then the body."""
    follow_seconds: Positive
    """Between two looks whether another version has become champion."""


def params_path() -> Path:
    """Return the parameter file: $HEADSTART_PARAMS, or params.yaml here."""
    return Path(os.environ.get(PARAMS_FILE) or "params.yaml")


def load_params(path: Path) -> dict[str, Any]:
    """Read the file with the parser that DVC uses too (YAML 1.2: 1e-3 is a number).

    Raises:
        ParamsError: The file is missing, too large, is not YAML, repeats a key, or is not a table.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ParamsError(f"{path} has more than {MAX_BYTES} bytes: no parameter file needs them")
        params = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist: name another file in ${PARAMS_FILE}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} cannot be read as YAML:\n{error}") from None
    except RecursionError:
        raise ParamsError(f"{path} is nested too deeply to be read: flatten it") from None
    if nodes(params, {}) > MAX_NODES:
        raise ParamsError(f"{path} stands for more than {MAX_NODES} values by its aliases: write them out")
    if not isinstance(params, dict):
        raise ParamsError(f"{path} holds {type(params).__name__}, expected one section per phase")
    if data := os.environ.get(DATA_FOLDER):
        params.setdefault("ingest_data", {})["path"] = data
    return params


def nodes(value: Any, known: dict[int, int]) -> int:
    """Count the values that a document stands for; one that aliases repeat counts each time.

    A few lines of aliases of aliases stand for billions of values, of which each is one in memory until
    something walks over them.
    """
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = MAX_NODES  # of a value that holds itself
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(nodes(part, known) for part in parts)
    return known[id(value)]


def modality_packages() -> list[str]:
    """Return the packages of modalities that the parameter file brings along; none if it cannot be read."""
    try:
        section = load_params(params_path()).get("modality")
    except ParamsError:
        return []  # told in words where the configs are built
    return sorted(name for name in section if "." in str(name)) if isinstance(section, dict) else []


def read_configs(kinds: Mapping[str, type[Config]], path: Path) -> dict[str, Config]:
    """Build every phase's config from the file.

    Raises:
        ParamsError: Every mistake of the whole file, one a line, before any work is done.
    """
    params = load_params(path)
    owned = {source.split(".")[0] for kind in kinds.values() for source in shared(kind).values()}
    problems = [
        f"{name}: unknown section; expected one of {', '.join(sorted({*kinds, *owned}))}"
        for name in params
        if name not in kinds and name not in owned
    ]
    configs: dict[str, Config] = {}
    for phase, kind in kinds.items():
        try:
            values = fill(params, phase, kind)
        except ParamsError as error:
            problems.append(str(error))
            continue
        try:
            configs[phase] = kind.model_validate(values)
        except ValidationError as error:
            problems.extend(explain(phase, shared(kind), error, values))
    if problems:
        lines = "\n".join(f"  {line}" for line in dict.fromkeys(problems))
        raise ParamsError(f"{path} has {len(set(problems))} mistake(s):\n{lines}")
    return configs


def shared(kind: type[Config]) -> dict[str, str]:
    """Return the fields of `kind` that another place owns: field name to dotted path."""
    return {
        name: mark.path
        for name, field in kind.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, From)
    }


def fill(params: Mapping[str, Any], phase: str, kind: type[Config]) -> dict[str, Any]:
    """Return the phase's section, completed with the values that are owned elsewhere."""
    section = params.get(phase)
    if not isinstance(section, dict):
        raise ParamsError(f"{phase}: found {section!r}, expected a section of that name")
    values = dict(section)
    for name, path in shared(kind).items():
        if name in section:
            raise ParamsError(f"{phase}.{name}: unknown key; it is set once, as {path}")
        try:
            values[name] = lookup(params, path)
        except KeyError:
            continue  # reported as missing, under its own path, by the validation
    return values


def lookup(params: Mapping[str, Any], path: str) -> Any:
    """Follow a dotted path; KeyError where it leads nowhere."""
    found: Any = params
    for key in path.split("."):
        if not isinstance(found, dict):
            raise KeyError(path)
        found = found[key]
    return found


def explain(
    phase: str, owners: Mapping[str, str], error: ValidationError, values: Mapping[str, Any]
) -> Iterator[str]:
    """Yield one line per mistake: the key as it stands in the file, what was found, what may be.

    A value that may be of several kinds fails for each of them, which is one mistake.
    """
    expected: dict[str, list[str]] = {}
    found: dict[str, Any] = {}
    for problem in error.errors(include_url=False):
        parts = problem["loc"] if problem["type"] == "missing" else known_part(problem["loc"], values)
        first, *rest = (str(part) for part in parts or ("",))
        key = ".".join([owners.get(first, f"{phase}.{first}" if first else phase), *rest])
        if problem["type"] == "missing":
            yield f"{key}: missing"
        elif problem["type"] == "extra_forbidden":
            yield mask(f"{key}: unknown key (found {problem['input']!r})")
        else:
            reason = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            expected.setdefault(key, []).append(reason)
            found[key] = problem["input"]
    for key, reasons in expected.items():
        yield mask(f"{key}: found {found[key]!r}, expected {' or '.join(reasons)}")


def known_part(place: tuple[int | str, ...], values: Any) -> list[int | str]:
    """Return as much of an error's place as there is in the values; pydantic adds which kind was tried."""
    known: list[int | str] = []
    for part in place:
        inside = (
            values.keys()
            if isinstance(values, Mapping)
            else range(len(values))
            if isinstance(values, list)
            else ()
        )
        if part not in inside:
            break
        known.append(part)
        values = values[part]
    return known
