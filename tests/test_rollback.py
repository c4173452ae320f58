"""A rollback as it is typed, between two runs of the same pipeline."""

from pathlib import Path
from typing import Any

import pytest

from tests.clone import Clone, make_clone

pytestmark = pytest.mark.slow


def ran(report: dict[str, Any]) -> list[str]:
    return [row["phase"] for row in report["phases"] if not row["reused"]]


def rollback(clone: Clone, *words: str) -> tuple[int, str]:
    done = clone.run("python", "-m", "infra.rollback", "images", "--why", "too many false alarms", *words)
    return done.returncode, done.stdout + done.stderr


def test_the_same_run_after_a_rollback_says_so_and_does_not_promote_again(tmp_path: Path) -> None:
    clone = make_clone(tmp_path / "project")
    clone.set_params(promote={"champion_margin": -1.0, "class_margin": 1.0, "calibration_margin": 1.0})
    first: dict[str, Any] = clone.zenml()
    assert first["decision"]["verdict"] == "promoted"
    clone.set_params(fine_tune={"epochs": 3})
    second: dict[str, Any] = clone.zenml()
    assert (second["decision"]["verdict"], second["decision"]["registered"]["version"]) == ("promoted", "2")
    assert ran(clone.zenml()) == [], "a promotion's own moves are no reason to ask again"

    code, said = rollback(clone)
    assert (code, said.strip()) == (0, "images: version 1 is champion, version 2 previous")
    again: dict[str, Any] = clone.zenml()
    assert ran(again) == ["promote"]
    assert again["decision"]["verdict"] == "rolled back"
    assert again["decision"]["registered"]["version"] == "2"
    assert again["decision"]["registered"]["rolled_back"].endswith(": too many false alarms")
    assert ran(clone.zenml()) == []

    code, said = rollback(clone)
    assert code == 1
    assert "Traceback" not in said
    assert "--force makes 2 champion all the same" in said
    code, said = rollback(clone, "--force")
    assert (code, said.strip()) == (0, "images: version 2 is champion, version 1 previous")
    assert clone.zenml()["decision"]["verdict"] == "promoted"  # type: ignore[index]
