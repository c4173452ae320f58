import os
import subprocess
import sys
from pathlib import Path

from steps.core.system.locks import exclusive_lock
from steps.core.system.process_owner import (
    boot_id,
    is_alive,
    pid_namespace,
    process_name,
    process_name_of,
    start_time,
)


def test_a_process_lives_until_it_is_killed_also_before_its_parent_has_taken_note() -> None:
    other = subprocess.Popen(["sleep", "60"])
    name = process_name_of(other.pid)
    assert is_alive(name) is True
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table of processes
    assert is_alive(name) is False
    other.wait()
    assert is_alive(name) is False


def test_a_number_that_another_process_has_now_is_not_the_same_process() -> None:
    ticks = int(start_time(os.getpid()) or 0)
    assert is_alive(process_name()) is True
    assert is_alive(f"{pid_namespace()} {boot_id()} {os.getpid()} {ticks - 1}") is False
    assert is_alive(f"{pid_namespace()} another-boot {os.getpid()} {ticks}") is False


def test_of_other_machines_and_of_nonsense_nothing_is_known() -> None:
    for name in (process_name().replace(pid_namespace(), "elsewhere/pid:[1]"), "", "a b c d", "host 1 2.5"):
        assert is_alive(name) is None


def test_a_clock_that_jumps_changes_no_name(tmp_path: Path) -> None:
    code = (
        "from steps.core.system.process_owner import process_name_of; import os; "
        "print(process_name_of(os.getppid()))"
    )
    words = [sys.executable, "-c", code]
    now = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    late = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TZ": "Asia/Tokyo", "FAKETIME": "-3d"},
    ).stdout
    assert now == late == f"{process_name()}\n"


WAITS = """
import sys
from pathlib import Path
from steps.core.system.locks import exclusive_lock

with exclusive_lock(Path(sys.argv[1]), "this"):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_the_second_waits_and_says_so_and_a_kill_lets_it_in(tmp_path: Path) -> None:
    words = [sys.executable, "-c", WAITS, str(tmp_path / "locks/a.lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(words, **pipes)  # type: ignore[call-overload]
    assert first.stdout.readline() == "in\n"
    second = subprocess.Popen(words, **pipes)  # type: ignore[call-overload]
    assert "this is locked by another process" in second.stderr.readline()
    first.kill()
    assert second.stdout.readline() == "in\n"
    second.communicate("")
    first.communicate()
    with exclusive_lock(tmp_path / "locks/a.lock", "this"):
        assert second.returncode == 0
