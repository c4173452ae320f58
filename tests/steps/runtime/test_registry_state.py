"""When an earlier decision has to be asked for again: after a rollback, not after a promotion of its own."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from steps.runtime.registry_state import recorded_state, state_to_compare


@dataclass
class Version:
    version: str
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Registered:
    """A registry of which only the state is looked at."""

    name: str = "m"
    champion: dict[str, str] = field(default_factory=dict)
    known: list[Version] = field(default_factory=list)

    @property
    def client(self) -> Any:
        return type("Client", (), {"tracking_uri": "sqlite:///x"})

    def aliases(self) -> dict[str, str]:
        return self.champion

    def versions(self) -> list[Version]:
        return self.known


def promote(registry: Any, scratch: Path, version: str) -> None:
    with recorded_state(registry, scratch):
        registry.known.append(Version(version))
        registry.champion = {"champion": version}


def test_a_promotion_s_own_moves_make_no_difference_and_a_rollback_does(tmp_path: Path) -> None:
    registry: Any = Registered()
    before = state_to_compare(registry, tmp_path)
    promote(registry, tmp_path, "1")
    assert state_to_compare(registry, tmp_path) == before
    promote(registry, tmp_path, "2")
    assert state_to_compare(registry, tmp_path) == before
    registry.known[1].tags["rolled_back"] = "{}"
    registry.champion = {"champion": "1"}
    changed = state_to_compare(registry, tmp_path)
    assert changed != before
    with recorded_state(registry, tmp_path):
        pass  # it was asked, and nothing was moved
    assert state_to_compare(registry, tmp_path) == changed


def test_another_s_promotion_is_a_reason_to_ask_again(tmp_path: Path) -> None:
    registry: Any = Registered()
    before = state_to_compare(registry, tmp_path)
    promote(registry, tmp_path, "1")
    promote(registry, tmp_path / "another machine", "2")
    assert state_to_compare(registry, tmp_path) != before


def test_a_promotion_that_failed_has_seen_nothing_through(tmp_path: Path) -> None:
    registry: Any = Registered()

    def fail() -> None:
        with recorded_state(registry, tmp_path):
            registry.champion = {"champion": "1"}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert state_to_compare(registry, tmp_path) == state_to_compare(registry, tmp_path / "elsewhere")
