"""The registry's moves: killed anywhere, one at a time, and back again."""

import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from steps.artifacts.decision import Decision
from steps.artifacts.models import Classifier
from steps.artifacts.report import Report
from steps.core.system.errors import RegistryError
from steps.runtime import mlflow_client, tracking
from steps.runtime.registry import Registry, Ruling
from tests.core.toys import LABELS, LOOK, build

MOVES = (
    "create_registered_model", "create_model_version", "set_registered_model_alias", "set_model_version_tag",
)  # fmt: skip

FRESH = multiprocessing.get_context("forkserver")  # a fork of a process with threads may wait for ever
FRESH.set_forkserver_preload(["tests.steps.test_registry"])


class Deadly:
    """A client that kills its process before, or after, its n-th change of the registry."""

    def __init__(self, client: MlflowClient, at: int) -> None:
        self.client, self.left = client, at

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.client, name)
        if name not in MOVES:
            return call

        def counted(*words: Any, **named: Any) -> Any:
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
            return call(*words, **named)

        return counted


def model(temperature: float) -> Classifier:
    meta = {
        "backbone": "test_resnet", "stages": 5, "labels": LABELS, "modality": "image",
        "preprocessing": LOOK.to_dict(),
        "temperature": temperature,
    }  # fmt: skip
    return Classifier(build("test_resnet").state(), meta, [], {})


REPORT = Report({"models": {}}, pd.DataFrame({"path": ["a"]}), "<p></p>")
GATES = [{"gate": "accuracy", "passed": True}]


def promote(
    client: Any, temperature: float, verdict: str = Decision.promoted, met: str | None = None
) -> Decision:
    """Register a model inside a run, as the phase does; first look whether that is done."""
    registry = Registry("m", client)
    new = model(temperature)
    if known := registry.decided(new.digest, REPORT.digest):
        return known
    return registry.register(new, REPORT, Ruling(verdict, GATES, met), "# card")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tracking store of its own."""
    use(tmp_path, monkeypatch)
    return tmp_path


def use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")


def inside_a_run(key: str, temperature: float, wrap: Any = lambda client: client, **more: Any) -> Decision:
    with tracking.phase_run(key, "promote", {"seed": 0}, {}):
        return promote(wrap(mlflow_client.connect()), temperature, **more)


def state() -> tuple[dict[str, str], int]:
    client = mlflow_client.connect()
    return Registry("m", client).aliases(), len(client.search_model_versions("name = 'm'"))


def die(folder: Path, at: int) -> int | None:
    """Promote a second model in a child that kills itself at its n-th move; return its exit code."""
    child = FRESH.Process(target=promote_and_die, args=(str(folder), at))
    child.start()
    child.join(120)
    return child.exitcode


def promote_and_die(folder: str, at: int) -> None:
    os.chdir(folder)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    inside_a_run(f"second-{at}", 2.0, lambda client: Deadly(client, at), met="1")


def test_a_kill_between_any_two_moves_leaves_one_champion_and_running_again_finishes(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(20):
        folder = store / str(at)
        folder.mkdir()
        use(folder, monkeypatch)
        assert inside_a_run("first", 1.0).verdict == Decision.promoted
        killed = die(folder, at)
        aliases, versions = state()
        assert aliases["champion"] in ("1", "2")
        assert versions in (1, 2)
        decision = inside_a_run("again", 2.0, met="1")
        assert (decision.verdict, decision.gates) == (Decision.promoted, GATES)
        assert state() == ({"champion": "2", "challenger": "2", "previous": "1"}, 2), at
        if killed == 0:
            break
        assert killed == -signal.SIGKILL
    assert at == 5, "a version, three aliases, a tag: every gap between them was tried"


def test_a_model_that_did_not_pass_is_a_challenger_and_moves_nothing_else(store: Path) -> None:
    inside_a_run("first", 1.0)
    assert inside_a_run("second", 2.0, verdict="kept", met="1").verdict == "kept"
    assert state() == ({"champion": "1", "challenger": "2"}, 2)


def test_a_champion_that_was_not_met_is_not_replaced(store: Path) -> None:
    inside_a_run("first", 1.0)
    inside_a_run("second", 2.0, met="1")
    late = inside_a_run("third", 3.0, met="1")
    assert late.verdict == "outrun"
    assert state()[0] == {"champion": "2", "challenger": "3", "previous": "1"}


def test_two_promotions_at_once_come_one_after_the_other(store: Path) -> None:
    registry = Registry("m", mlflow_client.connect())
    order: list[str] = []
    inside = threading.Event()

    def second() -> None:
        inside.wait()
        with registry.alone(store):
            order.append("second")

    other = threading.Thread(target=second)
    other.start()
    with registry.alone(store):
        inside.set()
        other.join(0.3)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def test_a_rollback_swaps_the_champion_back_and_says_who_and_why(store: Path) -> None:
    registry = Registry("m", mlflow_client.connect())
    inside_a_run("first", 1.0)
    with pytest.raises(RegistryError, match="nothing to roll back to"):
        registry.rollback("ann", "because")
    inside_a_run("second", 2.0, met="1")
    assert registry.rollback("ann", "it sees ghosts") == ("1", "2")
    assert state()[0] == {"champion": "1", "challenger": "2", "previous": "2"}
    tags = mlflow_client.connect().get_model_version("m", "2").tags
    assert '"who": "ann", "why": "it sees ghosts"' in tags["rolled_back"]
    assert inside_a_run("again", 2.0).verdict == Decision.promoted, "a known decision moves nothing"
    assert state()[0]["champion"] == "1"
    assert registry.rollback("ann", "it does not") == ("2", "1")


def test_a_rollback_that_was_killed_half_way_is_finished_by_the_next(store: Path) -> None:
    client = mlflow_client.connect()
    inside_a_run("first", 1.0)
    inside_a_run("second", 2.0, met="1")
    client.set_model_version_tag("m", "2", "rolled_back", '{"to": "1"}')
    client.set_registered_model_alias("m", "champion", "1")
    assert Registry("m", client).rollback("ann", "again") == ("1", "2")
    assert state()[0] == {"champion": "1", "challenger": "2", "previous": "2"}


def test_the_gates_and_the_card_lie_beside_the_model(store: Path) -> None:
    inside_a_run("first", 1.0)
    source = mlflow_client.connect().get_model_version_download_uri("m", "1")
    folder = Path(mlflow_client.download(source, str(store / "got")))
    assert (folder / "card.md").read_text() == "# card"
    assert '"accuracy"' in (folder / "gates.json").read_text()
