"""A data folder, on a disk or behind a URL: listing it and reading from it, never outside it."""

import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import unquote

import fsspec

from steps.core.system.errors import DataError
from steps.core.system.storage import write_file

if TYPE_CHECKING:
    import pandas as pd

HUB = "hub:"
MISSING = "no such file"  # how the reason begins why a file is left out that is not there
MAX_BYTES = 2**30  # of one file: a sample is never larger, and it is read as a whole
COMPRESSED = {"zip", "tar", "libarchive"}  # protocols whose sizes are only claimed
T = TypeVar("T")
R = TypeVar("R")


class Source(Protocol):
    """Where the raw bytes of samples come from: files, or rows of a table."""

    url: str

    def read(self, path: str) -> bytes:
        """Return the bytes of one sample.

        Raises:
            DataError: They cannot be read, or are not what they were.
        """


class Folder:
    """Reads files below one root; remote files are kept on the local disk after the first read."""

    def __init__(self, root: str, cache: Path, known: "pd.DataFrame | None" = None) -> None:
        """Open `root`, a local path or any fsspec URL; nothing is read yet.

        What a table of `known` files (path, sha256) has the digest of is compared with it when it is read.
        """
        self.url = root
        self.digests: dict[str, str] = {}
        if known is not None:
            self.digests = dict(zip(known["path"], known["sha256"], strict=True))
        self.local = "://" not in root
        if self.local:
            self.fs, self.root = fsspec.filesystem("file"), os.path.realpath(Path(root).expanduser())
        else:
            self.fs, path = fsspec.url_to_fs(root)
            self.root = path.rstrip("/")
        self.copies = cache / "remote" / hashlib.sha256(root.encode()).hexdigest()[:16]
        if not self.fs.exists(self.root):
            raise DataError(f"{root} does not exist: set ingest_data.path to your data")

    def is_file(self) -> bool:
        """Say whether the root itself is a file (a manifest)."""
        return bool(self.fs.isfile(self.root))

    def parent(self, cache: Path) -> "Folder":
        """Return the folder that holds the root."""
        above, slash, _ = self.url.rpartition("/")
        return Folder(above if slash else ".", cache)

    def list(self) -> list[str]:
        """Return the path of every file, relative to the root, sorted; hidden ones left out."""
        paths = (path.removeprefix(self.root).lstrip("/") for path in self.fs.find(self.root))
        return sorted(p for p in paths if not any(part.startswith(".") for part in p.split("/")))

    @property
    def can_list(self) -> bool:
        """Whether the files can be listed; a web server gives pages instead."""
        return self.local or not self.url.startswith(("http://", "https://"))

    def holds_all(self, paths: Iterable[object]) -> bool:
        """Say whether every path is a file below the root; of a local one nothing is listed."""
        if not self.local:
            return set(map(str, paths)) <= set(self.list())
        return all(
            isinstance(path, str)
            and not path.startswith("/")
            and ".." not in path.split("/")
            and "\0" not in path
            and os.path.isfile(f"{self.root}/{path}")
            for path in paths
        )

    def read(self, path: str) -> bytes:
        """Read one file.

        Raises:
            DataError: The path leads out of the root, the file cannot be read, or is not what it was.
        """
        data = self.fetch(path)
        if path in self.digests and hashlib.sha256(data).hexdigest() != self.digests[path]:
            raise DataError(
                f"{path} has changed since ingest_data read it: run the same command again, and change "
                "nothing in the data set while a run works on it"
            )
        return data

    def fetch(self, path: str) -> bytes:
        """Read one file, whatever it was before; see `read`."""
        full = self.place(path)
        try:
            return self.read_local(path, full) if self.local else self.read_remote(path, full)
        except FileNotFoundError:
            raise DataError(f"{MISSING}: {path}{self.missing_hint(path)}") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}{self.missing_hint(path)}") from None

    def missing_hint(self, path: str) -> str:
        """Return what may be the matter with a path that leads to no file."""
        if path in self.digests:
            return "; ingest_data could read it: put it back, or run again without it"
        return " (written with back-slashes: expected /)" if "\\" in path else ""

    def place(self, path: str) -> str:
        """Return where a path below the root leads; nothing is looked at that lies elsewhere.

        Raises:
            DataError: It leads out of the root.
        """
        full = f"{self.root}/{path}"
        if "\0" in path:
            raise DataError(f"{path!r} is no file name")
        # a server may take %2e%2e, and what that is encoded as, for dots
        parts = path if self.local else decoded(path).replace("\\", "/")
        if ".." in parts.split("/"):
            raise DataError(f"{path} leads out of {self.root}")
        if self.local and not os.path.realpath(full).startswith(self.root + os.sep):
            raise DataError(f"{path} leads out of {self.root}")
        return full

    def read_local(self, path: str, full: str) -> bytes:
        """Read a file of the local disk."""
        check_regular_file(path, os.stat(full))
        return bytes(self.fs.cat_file(full))

    def read_remote(self, path: str, full: str) -> bytes:
        """Read a file behind a URL, from the local copy if the remote one has not changed since."""
        key = f"{full} {self.fs.ukey(full)}"
        copy = self.copies / hashlib.sha256(key.encode()).hexdigest()
        if not copy.is_file():
            write_file(copy, self.download(path, full))
        return copy.read_bytes()

    def download(self, path: str, full: str) -> bytes:
        """Read what is behind a URL, and no more than a local file may have, whatever size it claims.

        Raises:
            DataError: It is larger.
        """
        size = self.fs.info(full).get("size")
        if size is not None and size > MAX_BYTES:
            raise DataError(f"{path} has {size} bytes, more than {MAX_BYTES}")
        if size is not None and not COMPRESSED.intersection(self.url.split("://")[0].split("::")):
            return bytes(self.fs.cat_file(full))
        with self.fs.open(full, "rb") as file:
            data = bytes(file.read(MAX_BYTES + 1))
        if len(data) > MAX_BYTES:
            raise DataError(f"{path} has more than {MAX_BYTES} bytes")
        return data

    def stamp(self, path: str) -> str:
        """Return what changes when a file changes, without reading it: size and time, or an etag.

        A file that is missing, or lies outside of the root, has a stamp too: it is left out later, by name.
        """
        try:
            full = self.place(path)
            if not self.local:
                return str(self.fs.ukey(full))
            facts = os.stat(full)
        except (DataError, OSError) as error:
            return type(error).__name__
        return f"{facts.st_size} {facts.st_mtime_ns}"

    def read_root(self) -> bytes:
        """Read the root itself, where it is a file.

        Raises:
            DataError: It is no plain file, or too large.
        """
        if self.local:
            return self.read_local(self.root, self.root)
        return self.download(self.root, self.root)


def decoded(path: str) -> str:
    """Undo percent-encoding, however often it was applied."""
    while (once := unquote(path)) != path:
        path = once
    return path


def check_regular_file(path: str, facts: os.stat_result) -> None:
    """Raise DataError for what would be read for ever: a pipe, a device, a file of many gigabytes."""
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        raise DataError(f"{path} is neither a file nor a folder")
    if facts.st_size > MAX_BYTES:
        raise DataError(f"{path} has {facts.st_size} bytes, more than {MAX_BYTES}")


def map_in_threads(work: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Map in threads, in order, never more than `ahead` results in memory."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
