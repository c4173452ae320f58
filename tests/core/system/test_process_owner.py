import os
import subprocess
import sys
from pathlib import Path

from steps.core.system.locks import alone
from steps.core.system.process_owner import boot, living, name_of, owner, place, started


def test_a_process_lives_until_it_is_killed_also_before_its_parent_has_taken_note() -> None:
    other = subprocess.Popen(["sleep", "60"])
    name = name_of(other.pid)
    assert living(name) is True
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table of processes
    assert living(name) is False
    other.wait()
    assert living(name) is False


def test_a_number_that_another_process_has_now_is_not_the_same_process() -> None:
    ticks = int(started(os.getpid()) or 0)
    assert living(owner()) is True
    assert living(f"{place()} {boot()} {os.getpid()} {ticks - 1}") is False
    assert living(f"{place()} another-boot {os.getpid()} {ticks}") is False


def test_of_other_machines_and_of_nonsense_nothing_is_known() -> None:
    for name in (owner().replace(place(), "elsewhere/pid:[1]"), "", "a b c d", "host 1 2.5"):
        assert living(name) is None


def test_a_clock_that_jumps_changes_no_name(tmp_path: Path) -> None:
    code = "from steps.core.system.process_owner import name_of; import os; print(name_of(os.getppid()))"
    words = [sys.executable, "-c", code]
    now = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    late = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TZ": "Asia/Tokyo", "FAKETIME": "-3d"},
    ).stdout
    assert now == late == f"{owner()}\n"


WAITS = """
import sys
from pathlib import Path
from steps.core.system.locks import alone

with alone(Path(sys.argv[1]), "this"):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_the_second_waits_and_says_so_and_a_kill_lets_it_in(tmp_path: Path) -> None:
    words = [sys.executable, "-c", WAITS, str(tmp_path / "locks/a.lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(words, **pipes)  # type: ignore[call-overload]
    assert first.stdout.readline() == "in\n"
    second = subprocess.Popen(words, **pipes)  # type: ignore[call-overload]
    assert "this is being done by another process" in second.stderr.readline()
    first.kill()
    assert second.stdout.readline() == "in\n"
    second.communicate("")
    first.communicate()
    with alone(tmp_path / "locks/a.lock", "this"):
        assert second.returncode == 0
