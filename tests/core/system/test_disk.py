"""Disks that are full or may not be written to: real ones, mounted for the while of a test."""

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from steps.core.system import disk as disks
from steps.core.system.disk import replace_folder, staging_folder, try_exchange
from steps.core.system.errors import DiskError
from steps.core.system.storage import write_file
from tests.core.system.test_storage import Note

Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount small disks in memory."""
    mounted: list[Path] = []

    def make(size: str = "1m") -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True
        )
        if done.returncode:
            pytest.skip(f"may not mount a disk here: {done.stderr.decode()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def make_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_full_disk_is_told_with_a_remedy_and_keeps_what_it_had(mount: Mount) -> None:
    disk = mount()
    write_file(disk / "shard", b"old")
    with pytest.raises(DiskError, match=r"disk0/shard cannot be written, the disk is full: make room"):
        write_file(disk / "shard", bytes(2 * 2**20))
    assert (disk / "shard").read_bytes() == b"old"
    assert files(disk) == ["shard"], "half a file is left"
    write_file(disk / "shard", b"new")


def test_an_artifact_on_a_full_disk_stays_the_old_one(mount: Mount) -> None:
    disk = mount()
    Note("old").save(disk / "note")
    with pytest.raises(DiskError, match="the disk is full"):
        Note("new", {"first": b"1", "large": bytes(2 * 2**20)}).save(disk / "note")
    assert Note.load(disk / "note").text == "old"
    assert not [name for name in files(disk) if name.startswith(".")], "half an artifact is left"


def test_an_artifact_that_is_copied_to_a_full_disk_is_told_too(mount: Mount, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(2 * 2**20))
    disk = mount()
    with pytest.raises(DiskError, match="the disk is full"):
        Note("new", {"large": tmp_path / "large"}).save(disk / "note")
    assert files(disk) == []


def test_a_read_only_disk_is_told_with_a_remedy(mount: Mount) -> None:
    disk = mount()
    Note("old").save(disk / "note")
    make_read_only(disk)
    for save in (lambda: write_file(disk / "x", b"1"), lambda: Note("new").save(disk / "note")):
        with pytest.raises(DiskError, match=r"cannot be written \(Read-only file system\): give this user"):
            save()
    assert Note.load(disk / "note").text == "old"


def test_what_killed_processes_left_is_taken_away_and_what_living_ones_make_is_not(tmp_path: Path) -> None:
    host = os.uname().nodename
    names = {f".note-{host}-99999999-abc": False, f".note-{host}-{os.getppid()}-abc": True,
             ".note-elsewhere-99999999-abc": True, f".notes-{host}-99999999-abc": True}  # fmt: skip
    for name in names:
        (tmp_path / name).mkdir()
    Note("text").save(tmp_path / "note")
    assert {name: (tmp_path / name).exists() for name in names} == names


@pytest.fixture(params=[True, False], ids=["exchanged", "one after the other"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a file system that can exchange two folders, and one that cannot."""
    if not request.param:
        monkeypatch.setattr(disks, "RENAME_EXCHANGE", 1 << 30)  # a flag that no kernel knows


def test_what_is_replaced_is_there_at_every_moment(tmp_path: Path) -> None:
    folder, running = tmp_path / "folder", [True]
    Note("0").save(folder)
    Note("old").save(tmp_path / "other")
    if not try_exchange(folder, tmp_path / "other"):
        pytest.skip("this file system cannot exchange two folders")

    def preprocessing() -> set[str]:
        seen = set()
        while running:
            seen.add((folder / "note.txt").read_text(encoding="utf-8"))  # raises where there is none
        return seen

    with ThreadPoolExecutor(1) as worker:
        looking = worker.submit(preprocessing)
        for number in range(1, 200):
            Note(str(number)).save(folder)
        running.clear()
        assert looking.result() <= {"old", *map(str, range(200))}
    assert Note.load(folder).text == "199"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "other"], "old ones are left"


@pytest.mark.usefixtures("way")
def test_two_that_replace_one_folder_at_once_both_succeed(tmp_path: Path) -> None:
    def save(name: str) -> None:
        for number in range(200):
            with staging_folder(tmp_path / "folder") as staged:
                made = staged / "made"
                made.mkdir()
                (made / name).write_text(str(number), encoding="utf-8")
                replace_folder(made, tmp_path / "folder")

    with ThreadPoolExecutor(2) as workers:
        list(workers.map(save, ["one", "other"]))
    (left,) = (tmp_path / "folder").iterdir()
    assert left.read_text(encoding="utf-8") == "199"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
