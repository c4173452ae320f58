"""An artifact on disk: a folder of named files with one content digest, written atomically."""

import hashlib
import io
import json
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic_core import CoreSchema, core_schema
from safetensors import SafetensorError

from steps.core.system.disk import disk_errors, replace_folder, staging_folder
from steps.core.system.errors import ArtifactError

if TYPE_CHECKING:
    import pandas as pd

INDEX = "artifact.json"

Blob = bytes | Path
Headline = dict[str, float | int | str]


@dataclass(frozen=True)
class RunSummary:
    """What the list of runs shows of an artifact, on the run of the whole pipeline."""

    name: str = ""
    """What the run is called from now on; empty: as before."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    """Of a data set: name, digest, source and profile, as json types."""


class Artifact(ABC):
    """A noun that travels between phases. Subclasses are frozen dataclasses."""

    version: ClassVar[int] = 1

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        """Let pydantic, by which ZenML checks a step's arguments, ask for the type and no more."""
        return core_schema.is_instance_schema(cls)

    @abstractmethod
    def files(self) -> Mapping[str, Blob]:
        """Return the content: relative file name to bytes, or to a file that holds them."""

    @classmethod
    @abstractmethod
    def read(cls, folder: Path) -> Self:
        """Build the artifact from a folder whose files have been verified."""

    def undigested_files(self) -> Mapping[str, bytes]:
        """Return files that are kept beside the content and are no part of it: clock times, say."""
        return {}

    def headline(self) -> Headline:
        """Return the few numbers a person wants to see in a table."""
        return {}

    @classmethod
    def in_words(cls, headline: Headline) -> str:
        """Put a headline of this kind into a few plain words, for a line on the terminal."""
        return headline_text(headline)

    def run_summary(self) -> RunSummary:
        """Return what the list of runs should show of it."""
        return RunSummary()

    def lineage(self) -> dict[str, str]:
        """Return the digests by which the whole run should be found again."""
        return {}

    @cached_property
    def index(self) -> bytes:
        """The table of contents as json: kind, format version, SHA-256 and size per file."""
        table = {name: describe(blob) for name, blob in self.files().items()}
        content = {"kind": type(self).__name__, "version": self.version, "files": table}
        return to_json(content)

    @property
    def digest(self) -> str:
        """The SHA-256 over every file's name and content."""
        return hashlib.sha256(self.index).hexdigest()

    def save(self, folder: Path) -> None:
        """Write the artifact to `folder`, replacing what is there; all or nothing."""
        folder = Path(folder)
        with disk_errors(folder), staging_folder(folder) as staged:
            for name, blob in self.files().items():
                place(blob, staged / name)
            for name, content in self.undigested_files().items():
                write_file(staged / name, content)
            write_file(staged / INDEX, self.index)
            staged.chmod(0o755)
            replace_folder(staged, folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the artifact from `folder`.

        Raises:
            ArtifactError: The folder is no such artifact, or one of its files is missing or broken.
        """
        folder = Path(folder)
        verify(folder, cls.__name__, cls.version)
        try:
            artifact = cls.read(folder)
        except (
            ValueError,
            KeyError,
            TypeError,
            OSError,
            SafetensorError,
        ) as error:  # whole, and yet not what it says it is
            raise ArtifactError(f"{folder} cannot be read ({error!r}); {remedy_for(folder)}") from None
        vars(artifact)["index"] = (folder / INDEX).read_bytes()
        return artifact


def headline_text(headline: Headline) -> str:
    """Write the key numbers of a phase in one line."""
    shown = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in headline.items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items())


class JsonArtifact(Artifact):
    """An artifact that is one json file with its own fields."""

    file: ClassVar[str]

    def files(self) -> Mapping[str, Blob]:
        """See `Artifact.files`."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {self.file: to_json(own)}

    @classmethod
    def read(cls, folder: Path) -> Self:
        """See `Artifact.read`."""
        return cls(**json.loads((folder / cls.file).read_bytes()))


def read_json(folder: Path, *names: str) -> list[Any]:
    """Read `folder`/NAME.json for every name."""
    return [json.loads((folder / f"{name}.json").read_bytes()) for name in names]


def table_bytes(table: "pd.DataFrame") -> bytes:
    """Write a table as parquet: the same bytes for the same rows."""
    import pyarrow as pa
    from pyarrow import parquet

    # Without pandas' own notes, and with one type for text, what was read is written the same.
    columns = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    text = [
        field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field
        for field in columns.schema
    ]
    buffer = io.BytesIO()
    parquet.write_table(columns.cast(pa.schema(text)), buffer, compression="zstd")
    return buffer.getvalue()


def read_table(path: Path) -> "pd.DataFrame":
    """Read a parquet file."""
    import pandas as pd

    return pd.read_parquet(path)


def verify(folder: Path, kind: str, version: int) -> None:
    """Check `folder` against its own index; name the broken file and what to do about it."""
    remedy = remedy_for(folder)
    try:
        index = json.loads((folder / INDEX).read_bytes())
        found = (index["kind"], index["version"])
        files = {str(name): (row["sha256"], row["bytes"]) for name, row in index["files"].items()}
    except FileNotFoundError:
        raise ArtifactError(f"{folder / INDEX} is missing: run the phase that writes it") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{folder / INDEX} is not an index ({error!r}); {remedy}") from None
    if found != (kind, version):
        raise ArtifactError(
            f"{folder} holds {found[0]} version {found[1]}, expected {kind} version {version}; {remedy}"
        )
    for name, (sha256, size) in files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ArtifactError(f"{folder / INDEX} names {name!r}, which leads out of {folder}; {remedy}")
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; {remedy}")
        if path.stat().st_size != size:
            raise ArtifactError(f"{path} has {path.stat().st_size} bytes, expected {size}; {remedy}")
        if file_sha256(path) != sha256:
            raise ArtifactError(f"{path} does not match its recorded SHA-256; {remedy}")


def remedy_for(folder: Path) -> str:
    """Say what to do about an artifact that is no good."""
    return f"delete {folder} and run the phase that writes it again"


def describe(blob: Blob) -> dict[str, Any]:
    """Return SHA-256 and size of a blob."""
    if isinstance(blob, Path):
        return {"sha256": file_sha256(blob), "bytes": blob.stat().st_size}
    return {"sha256": hashlib.sha256(blob).hexdigest(), "bytes": len(blob)}


def file_sha256(path: Path) -> str:
    """Hash a file without holding it in memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_json(content: object) -> bytes:
    """Serialise to json that is the same for the same content."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def write_file(path: Path, content: bytes, durable: bool = True) -> None:
    """Write and fsync, by way of a name that nobody reads, so that a crash leaves no half file.

    What need not be `durable`, since it can be made again, is not waited for.

    Raises:
        DiskError: The disk is full, or may not be written to.
    """
    partial = None
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            number, partial = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
            with open(number, "wb") as file:
                file.write(content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            Path(partial).chmod(0o644)
            Path(partial).replace(path)
        except BaseException:
            if partial is not None:
                Path(partial).unlink(missing_ok=True)
            raise


def place(blob: Blob, target: Path) -> None:
    """Write bytes, or hard-link a file (copy where the file system cannot link)."""
    if isinstance(blob, bytes):
        write_file(target, blob)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(blob)
    except OSError:
        shutil.copyfile(blob, target)
