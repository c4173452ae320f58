import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from steps.core.system.errors import ArtifactError
from steps.core.system.storage import INDEX, Artifact, Blob, file_sha256, to_json, write_file


@dataclass(frozen=True)
class Note(Artifact):
    text: str
    others: dict[str, Blob] = field(default_factory=dict)

    def files(self) -> Mapping[str, Blob]:
        return {"note.txt": self.text.encode(), **self.others}

    @classmethod
    def read(cls, folder: Path) -> Self:
        return cls((folder / "note.txt").read_text())


@dataclass(frozen=True)
class Letter(Note):
    pass


class Interrupted(Exception):
    pass


@dataclass(frozen=True)
class Torn(Note):
    def files(self) -> Mapping[str, Blob]:
        raise Interrupted


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r")))
def test_what_is_saved_is_what_is_loaded(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("notes") / "note"
    Note(text).save(folder)
    assert Note.load(folder).text == text


def test_the_digest_before_saving_is_the_digest_after_loading(tmp_path: Path) -> None:
    note = Note("hello", {"more/deep.bin": b"\0\1"})
    before = note.digest
    note.save(tmp_path / "note")
    assert Note.load(tmp_path / "note").digest == before


def test_the_digest_depends_on_content_names_kind_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.bin"
    file.write_bytes(b"same")
    digest = Note("a", {"b": b"same"}).digest
    assert Note("a", {"b": file}).digest == digest
    others = (Note("a", {"b": b"some"}), Note("a", {"c": b"same"}), Letter("a", {"b": b"same"}), Note("a"))
    assert len({digest, *(other.digest for other in others)}) == 5


def edit_index(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_bytes())
        change(index)
        (folder / INDEX).write_bytes(to_json(index))

    return edit


def put(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: write_file(folder / name, data)


BREAKS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "a flipped byte": (put("note.txt", b"hellp"), "note.txt", "SHA-256"),
    "a missing file": (lambda folder: (folder / "note.txt").unlink(), "note.txt", "missing"),
    "a truncated file": (put("note.txt", b"hell"), "note.txt", "4 bytes, expected 5"),
    "a longer file": (put("note.txt", b"hello!"), "note.txt", "6 bytes, expected 5"),
    "another kind": (edit_index(lambda i: i.update(kind="Letter")), "", "Letter version 1, expected Note"),
    "another version": (edit_index(lambda i: i.update(version=2)), "", "version 2, expected Note version 1"),
    "no index": (lambda folder: (folder / INDEX).unlink(), INDEX, "missing"),
    "an empty index": (put(INDEX, b""), INDEX, "not an index"),
    "an index that is a list": (put(INDEX, b"[1]"), INDEX, "not an index"),
    "an index that is no text": (put(INDEX, b"\xff\xfe\0\x80"), INDEX, "not an index"),
    "an index without files": (edit_index(lambda i: i.pop("files")), INDEX, "not an index"),
    "an index whose files are a list": (edit_index(lambda i: i.update(files=[1])), INDEX, "not an index"),
    "an index that leads out": (
        edit_index(lambda i: i["files"].update({"../x": {"sha256": "", "bytes": 0}})),
        INDEX,
        "leads out of",
    ),
    "an index row of nothing": (edit_index(lambda i: i["files"].update(x=None)), INDEX, "not an index"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_whatever_is_broken_is_named_together_with_a_remedy(tmp_path: Path, name: str) -> None:
    destroy, file, says = BREAKS[name]
    folder = tmp_path / "note"
    Note("hello").save(folder)
    destroy(folder)
    with pytest.raises(ArtifactError) as caught:
        Note.load(folder)
    message = str(caught.value)
    assert str(folder / file) in message
    assert says in message
    assert "run the phase that writes it" in message


def test_a_folder_that_was_never_written_names_its_index(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere/artifact\.json is missing: run the phase"):
        Note.load(tmp_path / "nowhere")


def test_a_flipped_byte_is_found_in_a_file_of_any_size(tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(65 * 2**20)
    Note("hello", {"large.bin": large}).save(tmp_path / "note")
    with (tmp_path / "note/large.bin").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    with pytest.raises(ArtifactError, match=r"large\.bin does not match its recorded SHA-256"):
        Note.load(tmp_path / "note")


def test_saving_over_a_folder_replaces_all_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "note"
    Note("old", {"sub/extra.txt": b"x"}).save(folder)
    (folder / "stray.txt").write_text("left by somebody")
    Note("new").save(folder)
    assert set(contents(folder)) == {INDEX, "note.txt"}
    assert Note.load(folder).text == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


@pytest.mark.parametrize("kind", ["files() raises", "a file to copy is gone"])
def test_a_save_that_fails_leaves_the_old_folder_and_nothing_else(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "note"
    Note("old").save(folder)
    before = contents(folder)
    broken = Torn("new") if kind == "files() raises" else Note("new", {"gone.bin": tmp_path / "gone.bin"})
    with pytest.raises((Interrupted, FileNotFoundError)):
        broken.save(folder)
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


KILLED = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[1].split(os.pathsep)
from tests.core.system.test_storage import Note

class Kills(dict):
    def items(self):
        yield "note.txt", b"new"
        os._exit(9)

class Dies(Note):
    def files(self):
        return Kills()

Dies("new").save(Path(sys.argv[2]))
"""


def test_a_process_killed_in_the_middle_of_a_save_leaves_the_old_folder_readable(tmp_path: Path) -> None:
    folder = tmp_path / "note"
    Note("old").save(folder)
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", KILLED, root, str(folder)], check=False, timeout=60)
    assert done.returncode == 9
    assert Note.load(folder).text == "old"
    Note("newer").save(folder)
    assert Note.load(folder).text == "newer"


def test_an_artifact_made_of_links_to_its_own_folder_can_be_saved_over_it(tmp_path: Path) -> None:
    folder = tmp_path / "note"
    Note("text", {"big.bin": b"big"}).save(folder)
    Note("text", {"big.bin": folder / "big.bin"}).save(folder)
    Note.load(folder)
    assert (folder / "big.bin").read_bytes() == b"big"


def test_rewriting_a_file_does_not_reach_the_artifact_that_is_linked_to_it(tmp_path: Path) -> None:
    source = tmp_path / "shard.bin"
    write_file(source, b"first")
    Note("text", {"shard.bin": source}).save(tmp_path / "note")
    assert (tmp_path / "note/shard.bin").samefile(source)
    write_file(source, b"other")
    assert (tmp_path / "note/shard.bin").read_bytes() == b"first"
    Note.load(tmp_path / "note")


def test_writing_a_file_leaves_no_partial_file_beside_it(tmp_path: Path) -> None:
    write_file(tmp_path / "deep/er/file", b"content")
    assert contents(tmp_path) == {"deep/er/file": b"content"}


def test_json_does_not_depend_on_the_order_in_which_keys_were_set() -> None:
    assert to_json({"b": 1, "ä": [2.5]}) == to_json({"ä": [2.5], "b": 1})
    assert "ä" in to_json({"ä": 1}).decode()


def test_pydantic_takes_an_artifact_as_it_is_and_refuses_another_kind() -> None:
    note = Note("text")
    assert TypeAdapter(Note).validate_python(note) is note
    with pytest.raises(ValidationError):
        TypeAdapter(Letter).validate_python(note)


def test_a_file_is_hashed_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(tmp_path / "a") == known
