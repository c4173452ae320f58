"""Tables as spreadsheets save them: read where there is one way to, else refused."""

import logging
from pathlib import Path

import pytest

from steps.core.data.layouts import read_layout
from steps.core.system.errors import DataError
from tests.core.data.test_layouts import manifest, records
from tests.core.toys import KINDS

GERMAN = [f"bild{n}.png,{name}" for n, name in enumerate(["grün", "müde", "weiß", "schön"] * 5)]
CYRILLIC = [f"foto{n}.png,{name}" for n, name in enumerate(["кошка", "собака", "лошадь", "корова"] * 5)]


def saved(rows: list[str], encoding: str, delimiter: str = ",", newline: str = "\n") -> bytes:
    text = newline.join(["path,label", *rows]) + newline
    return text.replace(",", delimiter).encode(encoding)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"]
)
def test_a_table_says_the_same_in_any_encoding_and_with_any_delimiter(
    tmp_path: Path, encoding: str, delimiter: str
) -> None:
    path = manifest(tmp_path, saved(GERMAN, encoding, delimiter, "\r\n"))
    assert records(path, tmp_path) == [(*row.split(","), None, None) for row in GERMAN]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (saved(GERMAN, "utf-8"), []),
        (saved(GERMAN, "utf-8-sig"), []),
        (saved(GERMAN, "utf-16"), ["UTF-16"]),
        (saved(GERMAN, "utf-8", ";"), ["cells divided by semicolons"]),
        (saved(GERMAN, "utf-16", "\t"), ["UTF-16, cells divided by tabs"]),
        (saved(CYRILLIC, "cp1251"), ["CP1251"]),
    ],
)
def test_what_is_unusual_is_said_in_one_line(
    tmp_path: Path, data: bytes, said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        records(manifest(tmp_path, data), tmp_path)
    assert [message.partition("(")[2].partition(")")[0] for message in caplog.messages] == said


def test_letters_of_another_alphabet_are_read_where_they_are_words(tmp_path: Path) -> None:
    path = manifest(tmp_path, saved(CYRILLIC, "cp1251"))
    assert [row[1] for row in records(path, tmp_path)] == [row.split(",")[1] for row in CYRILLIC]


def test_an_encoding_that_cannot_be_told_is_refused_with_the_readings(tmp_path: Path) -> None:
    french = [f"photo{n}.png,{name}" for n, name in enumerate(["forêt", "été", "château"] * 9)]
    with pytest.raises(
        DataError, match=r"encoding cannot be told.*forêt.*; save it as comma-separated UTF-8"
    ):
        records(manifest(tmp_path, saved(french, "cp1252")), tmp_path)


@pytest.mark.parametrize("label", ["é", "grün", "狗", "Ж"])
def test_a_word_alone_tells_no_encoding(tmp_path: Path, label: str) -> None:
    encoding = {"狗": "gb18030", "Ж": "cp1251"}.get(label, "latin-1")
    with pytest.raises(DataError, match="in UTF-8"):
        records(manifest(tmp_path, f"path,label\na.png,{label}\n".encode(encoding)), tmp_path)


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\0\0" * 9, b"\xff\xfea", b"path,label\na\0b.png,x\n", bytes(range(256)) * 4]
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match=r"manifest\.csv cannot be read as a manifest.*save it as"):
        records(manifest(tmp_path, data), tmp_path)


def test_commas_in_the_cells_of_a_table_with_semicolons_stay(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path;label\na.png;red, ripe\nb.png;green, hard\n")
    assert [row[1] for row in records(path, tmp_path)] == ["red, ripe", "green, hard"]
    path = manifest(tmp_path, "path,label\na.png,red; ripe\nb.png,green; hard\n")
    assert [row[1] for row in records(path, tmp_path)] == ["red; ripe", "green; hard"]


def test_of_two_delimiters_in_the_header_the_one_that_every_row_keeps_counts(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path;label;size (cm, kg)\na.png;x;1\nb.png;y;2\n")
    assert [row[1] for row in records(path, tmp_path)] == ["x", "y"]


def test_two_delimiters_that_would_both_do_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"may be divided by any of \[',', ';'\]"):
        records(manifest(tmp_path, "path,label;x\na.png,y;z\n"), tmp_path)


def test_a_tsv_is_read_with_tabs_and_jsonl_by_lines(tmp_path: Path) -> None:
    (tmp_path / "list.tsv").write_text("path\tlabel\na.png\tx, y\n")
    assert records(str(tmp_path / "list.tsv"), tmp_path) == [("a.png", "x, y", None, None)]
    (tmp_path / "list.jsonl").write_text('{"path": "a.png", "label": 1}\n{"path": "b.png", "label": 2}\n\n')
    assert records(str(tmp_path / "list.jsonl"), tmp_path) == [
        ("a.png", "1", None, None),
        ("b.png", "2", None, None),
    ]
    (tmp_path / "list.jsonl").write_text(
        '{"path": "a.png", "label": ["x", "y"]}\n{"path": "b.png", "label": []}\n'
    )
    table = read_layout(str(tmp_path / "list.jsonl"), tmp_path, KINDS)[1]
    assert list(table["labels"]) == ["x|y", ""]


@pytest.mark.parametrize("text", ["[1]\n", "{", '"a"\n', "[" * 100_000])
def test_jsonl_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.jsonl").write_text(text)
    with pytest.raises(DataError, match=r"list\.jsonl cannot be read"):
        records(str(tmp_path / "list.jsonl"), tmp_path)
