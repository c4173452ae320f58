"""How failures reach the user: one block with a remedy, the rest in the run's log, no secret anywhere."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from steps.core.system.errors import DataError, DiskError, MemoryLimitError
from steps.runtime import journal
from steps.runtime.failures import ErrorBlock, as_headstart_error, error_block
from steps.runtime.journal import Facts
from tests.clone import ROOT, Clone, make_clone
from tests.core.system.test_disk import Mount, make_read_only, mount

__all__ = ["mount"]

SECRETS = {"AWS_SECRET_ACCESS_KEY": "canary-of-aws", "MLFLOW_TRACKING_PASSWORD": "canary-of-mlflow"}


def raised(make: Callable[[], object]) -> BaseException:
    """Return what a call raises."""
    try:
        make()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def full() -> None:
    with Path("/dev/full").open("w") as file:
        file.write("x")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_known_error_is_its_name_and_its_message_and_no_more(here: Path) -> None:
    assert error_block("evaluate", "run", DataError("a.png is gone: put it back")) == (
        "\nevaluate: DataError\na.png is gone: put it back\n"
    )
    assert not (here / "logs").exists(), "a message needs no log"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (raised(full), DiskError, "the disk is full: make room"),
        (PermissionError(13, "Permission denied", "/x/y"), DiskError, "/x/y cannot be written"),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), DiskError, "make room"),
        (RuntimeError("attempt to write a readonly database"), DiskError, "the right to write"),
        (MemoryError(), MemoryLimitError, "cache_features.micro_batch"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), MemoryLimitError, "lower"),
    ],
)
def test_what_the_machine_has_too_little_of_is_told_with_a_remedy(
    error: BaseException, kind: type[Exception], message: str
) -> None:
    known = as_headstart_error(error)
    assert type(known) is kind
    assert message in str(known)
    assert "run the same command again" in str(known)


def test_an_error_that_nobody_expected_leaves_its_traceback_in_the_log(here: Path) -> None:
    said = error_block("evaluate", "run-1", raised(lambda: {}["label"]))
    assert "evaluate: unexpected KeyError\n'label'\nin tests/test_failures.py, line " in said
    assert f"The traceback is in {here}/logs/run-1.log; HEADSTART_DEBUG=1 shows it here." in said
    assert len(said.splitlines()) < 8
    assert "Traceback (most recent call last)" in (here / "logs/run-1.log").read_text()
    (line,) = (here / "logs/run-1.jsonl").read_text().splitlines()
    assert "KeyError" in json.loads(line)["traceback"]


def test_with_debug_the_error_itself_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_DEBUG", "1")
    with pytest.raises(KeyError), ErrorBlock("evaluate", "run"):
        raise KeyError("label")


def test_a_run_s_journal_has_a_line_for_people_and_one_for_machines(here: Path) -> None:
    log = logging.getLogger("headstart")
    log.setLevel(logging.INFO)
    with journal.journal("run/2", "evaluate"):
        log.info("%s: %s", "evaluate", Facts({"digest": "abc"}, {"accuracy": 0.5}))
        log.warning("a URL: postgresql://me:canary-in-url@host/db")
    rows = [json.loads(line) for line in (here / "logs/run_2.jsonl").read_text().splitlines()]
    assert [row["message"].split(" ")[0] for row in rows] == ["begins", "evaluate:", "a", "ended"]
    assert {row["phase"] for row in rows} == {"evaluate"}
    assert (rows[1]["digest"], rows[1]["accuracy"], rows[1]["message"]) == (
        "abc",
        0.5,
        "evaluate: accuracy 0.5",
    )
    assert rows[3]["seconds"] >= 0
    text = (here / "logs/run_2.log").read_text()
    assert "evaluate INFO evaluate: accuracy 0.5" in text
    assert "canary" not in text + (here / "logs/run_2.jsonl").read_text()
    assert not [h for h in log.handlers if isinstance(h, journal.LogFile)], "the files are closed"


def test_a_journal_that_cannot_be_written_stops_nothing(here: Path, mount: Mount) -> None:
    disk = mount()
    make_read_only(disk)
    os.chdir(disk)
    with journal.journal("run", "evaluate"):
        done = True
    assert done
    said = error_block("evaluate", "run", raised(lambda: {}["label"]))
    assert "HEADSTART_DEBUG=1" in said
    assert "The traceback is in" not in said


TOO_LARGE = """
import resource, sys
from pathlib import Path
from PIL import Image
from steps.core.data.files import Folder, map_in_threads
from steps.core.modalities.image.scan import inspect_file
from steps.runtime.failures import ErrorBlock

folder = Path(sys.argv[1])
Image.new("RGB", (9000, 9000)).save(folder / "large.png", compress_level=1)
Image.new("RGB", (40, 40)).save(folder / "small.png")
data = Folder(str(folder), folder)
assert inspect_file(data, "small.png", None)[0]["error"] is None
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 120 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
with ErrorBlock("validate_data", "run"):
    print(list(map_in_threads(lambda path: inspect_file(data, path, None)[0]["error"], ["large.png"], 2)))
"""


def test_a_worker_without_memory_ends_the_phase_and_accuses_no_picture(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOO_LARGE, str(here)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-2000:]
    assert "validate_data: MemoryLimitError" in done.stderr
    assert "leave out the largest samples" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert not done.stdout, "a picture that is fine is never listed as broken"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return make_clone(tmp_path_factory.mktemp("failures") / "project")


URL = "postgresql://me:canary-of-pg@db"
PLANTED = f'raise RuntimeError("no answer from {URL}, " + os.environ["AWS_SECRET_ACCESS_KEY"])'


def test_a_phase_with_a_mistake_in_it_ends_in_a_block_and_shows_no_secret(clone: Clone) -> None:
    file = clone.folder / "steps/core/data/ingest.py"
    good = file.read_text()
    file.write_text(
        good.replace(
            "    facts = map_in_threads(", f"    import os\n    {PLANTED}\n    facts = map_in_threads("
        )
    )
    try:
        done = clone.run("python", "-m", "steps.ingest_data", **SECRETS)
        loud = clone.run("python", "-m", "steps.ingest_data", HEADSTART_DEBUG="1", **SECRETS)
    finally:
        file.write_text(good)
    assert done.returncode == loud.returncode == 1
    assert "ingest_data: unexpected RuntimeError\nno answer from postgresql://me:***@db, ***" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in loud.stderr
    (named,) = re.findall(r"The traceback is in (\S+\.log);", done.stderr)
    assert "Traceback" in Path(named).read_text()
    assert not list(clone.folder.glob("artifacts/*"))
    files = [p for p in clone.folder.rglob("*") if p.is_file() and p != file]
    leaks = [p for p in files if b"canary-of" in p.read_bytes() and "__pycache__" not in p.parts]
    assert not leaks


def test_ctrl_c_is_a_block_too(clone: Clone) -> None:
    known = set(clone.folder.glob("logs/*.jsonl"))
    process = clone.start("python", "-m", "steps.ingest_data")
    while set(clone.folder.glob("logs/*.jsonl")) <= known and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(120) != 0
    said = (clone.folder / "output.txt").read_text()
    assert "ingest_data: stopped by Ctrl-C\nFinished work is kept: run the same command again" in said
    assert "Traceback" not in said
    assert not list(clone.folder.glob("artifacts/*"))


def test_a_phase_whose_disk_is_full_says_so_and_leaves_nothing(clone: Clone, mount: Mount) -> None:
    disk = mount("8k")
    (clone.folder / "artifacts").symlink_to(disk)
    try:
        done = clone.run("python", "-m", "steps.ingest_data")
    finally:
        (clone.folder / "artifacts").unlink()
    assert done.returncode == 1
    assert "ingest_data: DiskError" in done.stderr
    assert "the disk is full: make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(disk.iterdir())


def test_a_phase_that_may_write_nowhere_says_so(clone: Clone, mount: Mount) -> None:
    disk = mount("1m")
    make_read_only(disk)
    done = clone.run("python", "-m", "steps.ingest_data", HEADSTART_SCRATCH=str(disk / "scratch"))
    assert done.returncode == 1
    assert "ingest_data: DiskError" in done.stderr
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr
