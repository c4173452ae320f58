import itertools
import os
import threading
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.core.data import files
from steps.core.data.files import Folder, map_in_threads
from steps.core.system.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name in ("b.txt", "a/x.txt", "a/.hidden", ".git/config", "a/.cache/y.txt", "A.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "data-of-others").mkdir()
    (tmp_path / "data-of-others/secret.txt").write_text("secret")
    return folder


@pytest.fixture
def remote() -> Iterator[str]:
    name = f"bucket-{uuid.uuid4().hex}"
    memory = fsspec.filesystem("memory")
    memory.pipe({f"/{name}/a/x.txt": b"x", f"/{name}/b.txt": b"b", f"/{name}/.hidden/c.txt": b"c"})
    yield f"memory://{name}"
    memory.rm(f"/{name}", recursive=True)


def test_every_file_is_listed_in_order_and_hidden_ones_are_left_out(root: Path, tmp_path: Path) -> None:
    assert Folder(str(root), tmp_path).list() == ["A.txt", "a/x.txt", "b.txt"]
    assert Folder(f"{root}/", tmp_path).list() == ["A.txt", "a/x.txt", "b.txt"]


def test_what_is_listed_can_be_read(root: Path, tmp_path: Path) -> None:
    folder = Folder(str(root), tmp_path)
    assert [folder.read(path).decode() for path in folder.list()] == folder.list()


@pytest.mark.parametrize(
    "path", ["../secret.txt", "a/../../secret.txt", "../data-of-others/secret.txt", "a/..", "..", "."]
)
def test_a_path_that_leads_out_of_the_root_is_refused(root: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match="leads out of"):
        Folder(str(root), tmp_path).read(path)


def test_a_link_that_leads_out_of_the_root_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "linked").symlink_to(tmp_path / "data-of-others")
    for path in ("link.txt", "linked/secret.txt"):
        with pytest.raises(DataError, match=f"{path} leads out of"):
            Folder(str(root), tmp_path).read(path)


def test_a_link_within_the_root_is_followed_and_the_root_may_be_one(root: Path, tmp_path: Path) -> None:
    (root / "link.txt").symlink_to(root / "b.txt")
    (tmp_path / "alias").symlink_to(root)
    assert Folder(str(tmp_path / "alias"), tmp_path).read("link.txt") == b"b.txt"


def test_an_absolute_path_is_taken_as_one_below_the_root(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file: .*secret\.txt"):
        Folder(str(root), tmp_path).read(str(tmp_path / "secret.txt"))


@pytest.mark.parametrize("place", ["local", "remote"])
@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("missing.txt", "^no such file: missing.txt$"),
        ("a", "^a cannot be read"),
        ("a\\b.txt", r"^no such file: a\\b\.txt \(written with back-slashes: expected /\)$"),
    ],
)
def test_a_file_that_is_missing_or_a_folder_is_named(
    root: Path, remote: str, tmp_path: Path, place: str, path: str, says: str
) -> None:
    if (place, path) != ("remote", "a"):  # fsspec's memory has no such difference
        with pytest.raises(DataError, match=says):
            Folder(str(root) if place == "local" else remote, tmp_path).read(path)


def test_a_path_with_a_nul_byte_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        Folder(str(root), tmp_path).read("a\0b.txt")


def test_a_root_that_does_not_exist_is_refused_with_the_key_to_set(tmp_path: Path) -> None:
    for root in (str(tmp_path / "nowhere"), "memory://nowhere-at-all"):
        with pytest.raises(DataError, match=r"does not exist: set ingest_data\.path"):
            Folder(root, tmp_path)


def test_a_root_that_is_a_file_is_read_and_its_parent_is_a_folder(root: Path, tmp_path: Path) -> None:
    file = Folder(str(root / "a/x.txt"), tmp_path)
    assert file.is_file()
    assert file.read_root() == b"a/x.txt"
    assert file.parent(tmp_path).list() == ["x.txt"]
    assert not Folder(str(root), tmp_path).is_file()


def test_a_url_works_like_a_local_folder(remote: str, tmp_path: Path) -> None:
    folder = Folder(remote, tmp_path)
    assert folder.list() == ["a/x.txt", "b.txt"]
    assert folder.read("a/x.txt") == b"x"
    with pytest.raises(DataError, match="leads out of"):
        folder.read("../b.txt")
    with pytest.raises(DataError, match="no such file: missing"):
        folder.read("missing.txt")


def test_a_file_behind_a_url_is_read_root_and_all(remote: str, tmp_path: Path) -> None:
    file = Folder(f"{remote}/a/x.txt", tmp_path)
    assert file.is_file()
    assert file.read_root() == b"x"
    assert file.parent(tmp_path).list() == ["x.txt"]


def test_a_remote_file_is_fetched_once_and_again_when_it_has_changed(remote: str, tmp_path: Path) -> None:
    assert Folder(remote, tmp_path).read("b.txt") == b"b"
    (copy,) = (path for path in (tmp_path / "remote").rglob("*") if path.is_file())
    assert copy.read_bytes() == b"b"
    copy.write_bytes(b"read from the copy")
    assert Folder(remote, tmp_path).read("b.txt") == b"read from the copy"
    fsspec.filesystem("memory").pipe(f"/{remote.removeprefix('memory://')}/b.txt", b"changed")
    assert Folder(remote, tmp_path).read("b.txt") == b"changed"


def test_two_remote_folders_do_not_share_their_copies(remote: str, tmp_path: Path) -> None:
    one = Folder(f"{remote}/a", tmp_path).read("x.txt")
    fsspec.filesystem("memory").pipe(f"/{remote.removeprefix('memory://')}/a2/x.txt", b"other")
    assert (one, Folder(f"{remote}/a2", tmp_path).read("x.txt")) == (b"x", b"other")


@given(st.lists(st.integers()), st.integers(1, 9))
def test_prefetching_keeps_the_order(items: list[int], ahead: int) -> None:
    assert list(map_in_threads(lambda item: item * 2, items, ahead)) == [item * 2 for item in items]


def test_prefetching_keeps_the_order_when_early_items_take_longest() -> None:
    def work(item: int) -> int:
        time.sleep(0.02 if item < 3 else 0)
        return item

    assert list(map_in_threads(work, range(12), 6)) == list(range(12))


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_never_more_items_are_in_flight_than_asked_for(ahead: int) -> None:
    lock, in_flight, most = threading.Lock(), 0, 0

    def items() -> Iterator[int]:
        nonlocal in_flight, most
        for item in range(40):
            with lock:
                in_flight += 1
                most = max(most, in_flight)
            yield item

    for _ in map_in_threads(lambda item: item, items(), ahead):
        with lock:
            in_flight -= 1
    assert most == ahead


def test_an_exception_comes_out_at_its_place_after_the_results_before_it() -> None:
    def work(item: int) -> int:
        if item == 3:
            raise DataError("number 3 is broken")
        return item

    results = map_in_threads(work, range(10), 4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="number 3"):
        next(results)


def test_a_consumer_that_stops_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    results = map_in_threads(lambda item: item, itertools.count(), 4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_what_is_missing_or_refused_has_a_stamp_and_nothing_outside_is_looked_at(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, looked = Folder(str(root), tmp_path), []
    plain = os.stat
    monkeypatch.setattr(os, "stat", lambda path, *a, **k: looked.append(str(path)) or plain(path, *a, **k))
    assert folder.stamp("missing.txt") == "FileNotFoundError"
    assert folder.stamp("../../secret.txt") == folder.stamp("../secret.txt") == "DataError"
    assert not [path for path in looked if "secret" in path]
    size, changed = folder.stamp("b.txt").split(" ")
    assert (size, int(changed) > 0) == ("5", True)
    (root / "b.txt").write_text("longer")
    assert folder.stamp("b.txt") != f"{size} {changed}"


@pytest.mark.parametrize(
    "path",
    ["%2e%2e/b.txt", "a/%2E%2e/%2e%2E/b.txt", "%252e%252e/b.txt", "..%2fb.txt", "..%5cb.txt", "..\\b.txt"],
)
def test_dots_that_a_server_would_decode_lead_out_too(remote: str, tmp_path: Path, path: str) -> None:
    for read in (Folder(remote, tmp_path).read, Folder(remote, tmp_path).fetch):
        with pytest.raises(DataError, match="leads out of"):
            read(path)


def test_a_local_name_with_a_percent_sign_is_a_name(root: Path, tmp_path: Path) -> None:
    (root / "%2e%2e").mkdir()
    (root / "%2e%2e/x.txt").write_text("mine")
    assert Folder(str(root), tmp_path).read("%2e%2e/x.txt") == b"mine"


def test_a_remote_file_has_the_limits_of_a_local_one(
    root: Path, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("small.txt", b"small")
        bomb.writestr("zeros.png", bytes(5_000_000))
    assert (tmp_path / "bomb.zip").stat().st_size < 10_000
    monkeypatch.setattr(files, "MAX_BYTES", 1_000_000)
    packed = Folder(f"zip://::{tmp_path}/bomb.zip", tmp_path / "cache")
    assert packed.read("small.txt") == b"small"
    with pytest.raises(DataError, match=r"zeros\.png has 5000000 bytes, more than 1000000"):
        packed.read("zeros.png")
    fsspec.filesystem("memory").pipe(f"/{remote.removeprefix('memory://')}/big.txt", bytes(1_000_001))
    with pytest.raises(DataError, match=r"big\.txt has 1000001 bytes"):
        Folder(remote, tmp_path).read("big.txt")
    monkeypatch.setattr(type(packed.fs), "info", lambda *words, **named: {"size": None, "name": "zeros.png"})
    with pytest.raises(DataError, match=r"zeros\.png has more than 1000000 bytes"):
        packed.download("zeros.png", packed.place("zeros.png"))
    kept = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert kept == len(b"small"), "nothing is left of what was refused"


def test_a_manifest_that_is_a_pipe_or_too_large_is_refused(
    root: Path, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(root / "list.csv")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        Folder(f"{root}/list.csv", tmp_path).read_root()
    monkeypatch.setattr(files, "MAX_BYTES", 3)
    for place in (f"{root}/b.txt", f"{remote}/b.txt"):
        fsspec.filesystem("memory").pipe(f"/{remote.removeprefix('memory://')}/b.txt", b"long")
        with pytest.raises(DataError, match=r"b\.txt has \d bytes, more than 3"):
            Folder(place, tmp_path).read_root()
