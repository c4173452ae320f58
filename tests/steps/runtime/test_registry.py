"""The registry's moves: killed anywhere, one at a time, and back again."""

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from steps.artifacts.decision import Decision
from steps.artifacts.models import Classifier
from steps.artifacts.report import Report
from steps.core.system.errors import ModelLostError, RegistryError
from steps.runtime import mlflow_client, tracking
from steps.runtime.registry import Registry
from steps.runtime.review import Review, ruling_key
from steps.runtime.rollback import finish_rollback, roll_back
from tests.core.toys import LABELS, PREPROCESSING, build
from tests.stores import use_store

MOVES = (
    "create_registered_model", "create_model_version", "set_registered_model_alias", "set_model_version_tag",
    "set_registered_model_tag", "delete_model_version_tag",
)  # fmt: skip

FRESH = multiprocessing.get_context("forkserver")  # a fork of a process with threads may wait for ever
FRESH.set_forkserver_preload(["tests.steps.runtime.test_registry"])


class Dead(BaseException):
    """Ends what is being done as a kill would, for a test that goes on in the same process."""


def die_here() -> None:
    raise Dead


def kill_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly:
    """A client that kills its process, or ends in another way, before its n-th change of the registry."""

    def __init__(self, client: MlflowClient, at: int, end: Callable[[], None] = kill_process) -> None:
        self.client, self.left, self.end = client, at, end

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.client, name)
        if name not in MOVES:
            return call

        def counted(*words: Any, **named: Any) -> Any:
            if self.left == 0:
                self.end()
            self.left -= 1
            return call(*words, **named)

        return counted


def model(temperature: float) -> Classifier:
    meta = {
        "backbone": "test_resnet", "stages": 5, "labels": LABELS, "modality": "image",
        "preprocessing": PREPROCESSING.to_dict(),
        "temperature": temperature,
    }  # fmt: skip
    return Classifier(build("test_resnet").state(), meta, [], {})


REPORT = Report({"models": {}}, pd.DataFrame({"path": ["a"]}), "<p></p>")
GATES = [{"gate": "accuracy", "passed": True}]


def promote(
    client: Any,
    temperature: float,
    verdict: str = Decision.promoted,
    met: str | None = None,
    config: str = "limits",
    gates: list[dict[str, Any]] = GATES,
    files: Mapping[str, bytes] | None = None,
) -> Decision:
    """Register a model inside a run, as the phase does; first look whether that is done.

    `met` is another version than the champion only where the champion has changed meanwhile.
    """
    registry = Registry("m", client)
    new = model(temperature)
    finish_rollback(registry)
    opponent, present = registry.opponent(new.digest), registry.aliases().get("champion")
    key = ruling_key(new.digest, REPORT.digest, {"config": config}, opponent)
    if known := registry.find_decision(key):
        return known
    review = Review(verdict, gates, met or opponent, files=files or {}, replaces=met or present, key=key)
    return registry.register(new, REPORT, review, "# card")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tracking store of its own."""
    use(tmp_path, monkeypatch)
    return tmp_path


def use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    use_store(folder, monkeypatch)


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
    assert inside_a_run("second", 2.0, verdict="not promoted", met="1").verdict == "not promoted"
    assert state() == ({"champion": "1", "challenger": "2"}, 2)


def test_a_champion_that_was_not_met_is_not_replaced(store: Path) -> None:
    inside_a_run("first", 1.0)
    inside_a_run("second", 2.0, met="1")
    late = inside_a_run("third", 3.0, met="1")
    assert late.verdict == "superseded"
    assert state()[0] == {"champion": "2", "challenger": "3", "previous": "1"}


def test_two_promotions_at_once_come_one_after_the_other(store: Path) -> None:
    registry = Registry("m", mlflow_client.connect())
    order: list[str] = []
    inside = threading.Event()

    def second() -> None:
        inside.wait()
        with registry.exclusive(store):
            order.append("second")

    other = threading.Thread(target=second)
    other.start()
    with registry.exclusive(store):
        inside.set()
        other.join(0.3)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def test_a_rollback_swaps_the_champion_back_and_says_who_and_why(store: Path) -> None:
    registry = Registry("m", mlflow_client.connect())
    inside_a_run("first", 1.0)
    with pytest.raises(RegistryError, match="nothing to roll back to"):
        roll_back(registry, "ann", "because", force=False)
    inside_a_run("second", 2.0)
    assert roll_back(registry, "ann", "too many false alarms", force=False) == ("1", "2")
    assert state()[0] == {"champion": "1", "challenger": "2", "previous": "2"}
    assert registry.rolled_back(model(2.0).digest) == "ann: too many false alarms"
    assert registry.rolled_back(model(1.0).digest) is None


def test_a_second_rollback_does_not_bring_the_bad_version_back_unless_it_is_forced(store: Path) -> None:
    registry = Registry("m", mlflow_client.connect())
    inside_a_run("first", 1.0)
    inside_a_run("second", 2.0)
    roll_back(registry, "ann", "too many false alarms", force=False)
    with pytest.raises(
        RegistryError, match=r"version 2, .* rolled back \(ann: too many false alarms\).*--force"
    ):
        roll_back(registry, "ann", "again", force=False)
    assert state()[0] == {"champion": "1", "challenger": "2", "previous": "2"}
    assert roll_back(registry, "ann", "they were real", force=True) == ("2", "1")
    assert state()[0] == {"champion": "2", "challenger": "2", "previous": "1"}
    assert registry.rolled_back(model(2.0).digest) is None, "it is a champion like any other again"
    assert inside_a_run("again", 2.0).verdict == Decision.promoted
    assert registry.rolled_back(model(1.0).digest) == "ann: they were real"


def test_a_run_whose_model_was_rolled_back_says_so_and_moves_nothing(store: Path) -> None:
    registry = Registry("m", mlflow_client.connect())
    inside_a_run("first", 1.0)
    assert inside_a_run("second", 2.0).verdict == Decision.promoted
    roll_back(registry, "ann", "too many false alarms", force=False)
    again = inside_a_run("again", 2.0)
    assert again.verdict == "rolled back"
    assert again.registered == {"name": "m", "version": "2", "rolled_back": "ann: too many false alarms"}
    assert state() == ({"champion": "1", "challenger": "2", "previous": "2"}, 2)
    other = inside_a_run("other limits", 2.0, config="other limits")
    assert other.verdict == "rolled back", "whatever it is judged by"
    assert state()[0]["champion"] == "1"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a champion and its predecessor, for tests that take a copy of its database."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        use(folder, patch)
        inside_a_run("first", 1.0)
        inside_a_run("second", 2.0)
    return folder


@pytest.fixture
def again_and_again(two: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Registry]:
    """Returns a fresh copy of that store's registry with every call."""

    def copy() -> Registry:
        folder = store / str(len(list(store.iterdir())))
        folder.mkdir()
        use(folder, monkeypatch)
        shutil.copy(two / "mlflow.db", folder)
        return Registry("m", mlflow_client.connect())

    return copy


def test_a_promotion_killed_after_the_alias_moved_and_then_rolled_back_is_not_made_again(
    store: Path,
) -> None:
    inside_a_run("first", 1.0)
    with pytest.raises(Dead):  # after a version and three aliases
        inside_a_run("second", 2.0, lambda client: Deadly(client, 4, die_here))
    registry = Registry("m", mlflow_client.connect())
    assert registry.aliases()["champion"] == "2"
    assert "settled" not in registry.tags("2")
    assert roll_back(registry, "ann", "too many false alarms", force=False) == ("1", "2")
    assert inside_a_run("again", 2.0).verdict == "rolled back"
    assert inside_a_run("again", 2.0).verdict == "rolled back"
    assert state() == ({"champion": "1", "challenger": "2", "previous": "2"}, 2)


@pytest.mark.parametrize("forced", [False, True])
def test_a_rollback_killed_between_any_two_moves_is_finished_by_the_next_or_by_a_promotion(
    again_and_again: Callable[[], Registry], forced: bool
) -> None:
    good, bad = ("2", "1") if forced else ("1", "2")
    finish: list[Callable[[Registry], object]] = [
        finish_rollback,
        lambda registry: roll_back(registry, "ann", "too many false alarms", force=forced),
    ]
    for at in range(9):
        for number, finished_by in enumerate(finish):
            registry = again_and_again()
            if forced:
                roll_back(registry, "ann", "too many false alarms", force=False)
            deadly: Any = Deadly(registry.client, at, die_here)
            ended = True
            try:
                roll_back(Registry("m", deadly), "ann", "because", force=forced)
            except Dead:
                ended = False
            assert registry.aliases()["champion"] in ("1", "2")
            marked = registry.rolled_back(model(float(bad)).digest) is not None
            if not ended:
                finished_by(registry)
            wanted = (good, bad) if ended or marked or number else (bad, good)
            assert (registry.aliases()["champion"], registry.aliases()["previous"]) == wanted, at
        if ended:
            break
    assert at == (4 if forced else 3), "every gap was tried"


def test_changed_gates_are_judged_anew_and_the_same_ones_are_not(store: Path) -> None:
    inside_a_run("first", 1.0)
    assert inside_a_run("second", 2.0, verdict="kept", config="strict").verdict == "kept"
    assert inside_a_run("again", 2.0, config="strict").verdict == "kept"
    assert state() == ({"champion": "1", "challenger": "2"}, 2), "nothing changed: the earlier decision"
    assert inside_a_run("other limits", 2.0, config="loose").verdict == Decision.promoted
    assert state() == ({"champion": "3", "challenger": "3", "previous": "1"}, 3)
    assert inside_a_run("again", 2.0, config="loose").registered["version"] == "3"
    assert state()[1] == 3


def test_a_promoted_model_is_judged_anew_too_and_never_becomes_its_own_predecessor(store: Path) -> None:
    registry = Registry("m", mlflow_client.connect())
    inside_a_run("first", 1.0)
    inside_a_run("second", 2.0, config="loose")
    assert registry.opponent(model(2.0).digest) == "1", "not itself"
    assert inside_a_run("again", 2.0, verdict="kept", config="strict").verdict == "kept"
    assert state()[0] == {"champion": "2", "challenger": "3", "previous": "1"}
    assert inside_a_run("again", 2.0, config="strict").verdict == "kept"
    assert inside_a_run("other", 2.0, config="other").verdict == Decision.promoted
    assert state()[0] == {"champion": "4", "challenger": "4", "previous": "1"}
    roll_back(registry, "ann", "too many false alarms", force=False)
    for config in ("loose", "other"):
        assert inside_a_run("again", 2.0, config=config).verdict == "rolled back", config


def test_another_champion_is_met_anew(store: Path) -> None:
    inside_a_run("first", 1.0)
    assert inside_a_run("second", 2.0, verdict="kept").verdict == "kept"
    inside_a_run("third", 3.0)
    assert inside_a_run("second", 2.0).verdict == Decision.promoted
    assert state()[0] == {"champion": "4", "challenger": "4", "previous": "3"}


def lose(version: str) -> Path:
    """Take a version's files away; return where they lay, with what lies beside it."""
    source = Path(mlflow_client.connect().get_model_version_download_uri("m", version))
    source.rename(source.with_name("elsewhere"))
    return source


def test_a_champion_without_files_is_one_block_with_the_remedies_and_stays(store: Path) -> None:
    registry = Registry("m", mlflow_client.connect())
    inside_a_run("first", 1.0)
    inside_a_run("second", 2.0)
    place = lose("2")
    with pytest.raises(ModelLostError) as caught:
        registry.load("2", store)
    for words in ("version 2", str(place), "restore", "infra.rollback", "on_lost_champion", "promote.name"):
        assert words in str(caught.value)
    assert state()[0]["champion"] == "2"
    place.with_name("elsewhere").rename(place)
    assert registry.load("2", store).digest == model(2.0).digest, "restored"
    lose("2")
    assert roll_back(registry, "ann", "its files are gone", force=False) == ("1", "2")
    assert registry.load("1", store).digest == model(1.0).digest
    with pytest.raises(RegistryError, match="the files of version 2, the previous champion, are gone"):
        roll_back(registry, "ann", "back", force=True)
    assert registry.rolled_back(model(2.0).digest) == "ann: its files are gone", "a refusal changes nothing"


def test_a_champion_whose_files_have_changed_is_lost_too(store: Path) -> None:
    inside_a_run("first", 1.0)
    client = mlflow_client.connect()
    weights = Path(client.get_model_version_download_uri("m", "1")) / "artifacts/classifier/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelLostError, match=r"is not what it was: .*does not match its recorded SHA-256"):
        Registry("m", client).load("1", store)


def test_the_run_that_made_a_lost_champion_registers_it_again(store: Path) -> None:
    inside_a_run("first", 1.0)
    inside_a_run("second", 2.0)
    lose("2")
    assert inside_a_run("again", 2.0).verdict == Decision.promoted
    assert state() == ({"champion": "3", "challenger": "3", "previous": "1"}, 3)
    assert Registry("m", mlflow_client.connect()).load("3", store).digest == model(2.0).digest


def test_the_gates_and_the_card_lie_beside_the_model(store: Path) -> None:
    inside_a_run("first", 1.0)
    source = mlflow_client.connect().get_model_version_download_uri("m", "1")
    folder = Path(mlflow_client.download(source, str(store / "got")))
    assert (folder / "card.md").read_text() == "# card"
    assert '"accuracy"' in (folder / "gates.json").read_text()
