"""A phase and the processes that it was launched as."""

import sys

import pytest

from steps import PHASES, SHARED
from steps.core.system.errors import ProcessError
from steps.core.system.ranks import RANK_VARIABLES, SIZE_VARIABLES, rank_and_size
from steps.runtime.run import refuse_processes, relaunch_as_processes


@pytest.fixture(autouse=True)
def nobody_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *RANK_VARIABLES,
        *SIZE_VARIABLES,
        "MASTER_ADDR",
        "ACCELERATE_MIXED_PRECISION",
        "HEADSTART_PROCESSES",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("rank", "size"), list(zip(RANK_VARIABLES, SIZE_VARIABLES, strict=True)))
def test_ranks_are_known_by_the_names_of_every_launcher(
    rank: str, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rank_and_size() == (0, 1)
    monkeypatch.setenv(rank, "2")
    monkeypatch.setenv(size, "3")
    assert rank_and_size() == (2, 3)


@pytest.mark.parametrize("phase", PHASES)
def test_several_processes_may_compute_only_what_can_be_shared(
    phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_processes(phase)
    monkeypatch.setenv("WORLD_SIZE", "2")
    if phase in SHARED:
        refuse_processes(phase)
        return
    with pytest.raises(ProcessError, match=rf"{phase} is computed by one process, found 2.*fine_tune"):
        refuse_processes(phase)


def test_a_launcher_that_was_asked_for_several_and_started_one_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    refuse_processes("fine_tune")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    with pytest.raises(ProcessError, match=r"has started one: use torchrun.* -m steps\.fine_tune"):
        refuse_processes("fine_tune")
    monkeypatch.setenv("RANK", "0")
    refuse_processes("fine_tune")


def test_a_phase_that_can_be_shared_becomes_as_many_processes_as_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda program, words: became.append(words))
    relaunch_as_processes("fine_tune")
    monkeypatch.setenv("HEADSTART_PROCESSES", "3")
    relaunch_as_processes("evaluate")
    assert not became
    relaunch_as_processes("fine_tune")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    assert became == [[sys.executable, *launcher, "-m", "steps.fine_tune"]]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    relaunch_as_processes("fine_tune")
    assert len(became) == 1, "each of them is one"
