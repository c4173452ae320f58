"""Tensors in a safetensors file with a seal: what has changed on the disk since is not taken for true.

safetensors checks its header and the file's length, so one flipped byte among the values would pass.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, uint8

CHECKSUM = "sha256"
HEADER = 8  # bytes that say how long the header is


def with_checksum(tensors: Mapping[str, Tensor], facts: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a file with the tensors, and with `facts`, texts by name."""
    plain = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    texts = dict(facts or {})
    return save(plain, metadata={**texts, CHECKSUM: digest(plain, texts)})


def load_checked(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Return tensors and facts; None where there is no such file, or one that was not written so.

    The file is read, not mapped: somebody may cut it short in the meantime.
    """
    try:
        data = path.read_bytes()
        tensors = load(data)
    except (FileNotFoundError, SafetensorError):
        return None
    end = HEADER + int.from_bytes(data[:HEADER], "little")
    facts: dict[str, str] = json.loads(data[HEADER:end]).get("__metadata__", {})
    sealed = facts.pop(CHECKSUM, "")
    return (tensors, facts) if digest(tensors, facts) == sealed else None


def digest(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    """Hash names, shapes and values of the tensors, and the facts."""
    found = hashlib.sha256(repr(sorted(facts.items())).encode())
    for name in sorted(tensors):
        x = tensors[name]
        found.update(f"{name} {x.dtype} {tuple(x.shape)}".encode())
        found.update(x.reshape(-1).view(uint8).numpy().data)
    return found.hexdigest()
