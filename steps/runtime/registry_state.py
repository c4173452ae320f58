"""What an engine compares before it takes an earlier decision for an answer: has the registry changed since?

A promotion changes the registry itself, and must not be asked again for that. So it records the state
that it found and the one that it left; as long as the registry is as it was left, what it found counts.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steps.core.system.storage import to_json, write_file
from steps.runtime.registry import CHAMPION, Registry


def state(registry: Registry) -> str:
    """Return which version is champion, and which have been rolled back."""
    marked = sorted(str(v.version) for v in registry.versions() if "rolled_back" in v.tags)
    return json.dumps({"champion": registry.aliases().get(CHAMPION), "rolled_back": marked})


def state_to_compare(registry: Registry, scratch: Path) -> str:
    """Return the state; where the last promotion of this scratch folder left it so, the one it found."""
    now, file = state(registry), record_of(registry, scratch)
    if file.is_file() and (told := json.loads(file.read_bytes()))["left"] == now:
        return str(told["found"])
    return now


@contextmanager
def recorded_state(registry: Registry, scratch: Path) -> Iterator[None]:
    """Record the registry's state before and after what is done inside, unless that fails."""
    found = state_to_compare(registry, scratch)
    yield
    write_file(record_of(registry, scratch), to_json({"found": found, "left": state(registry)}))


def record_of(registry: Registry, scratch: Path) -> Path:
    """Return the file in which a registered model's state is recorded."""
    key = hashlib.sha256(f"{registry.client.tracking_uri} {registry.name}".encode()).hexdigest()[:32]
    return scratch / "registry" / f"{key}.json"
