"""Samples in formats that are not read: few are left out, many stop the run with what to do."""

from pathlib import Path

import pytest

from steps.core.data.unread import refuse_unread
from steps.core.system.errors import DataError
from steps.ingest_data import ingest_data
from tests.core.toys import KINDS, encode, picture
from tests.steps.test_ingest_data import config

HERE, NOT_HERE = (".png", ".jpg"), {".heic": "HEIC: install it", ".jxl": "JPEG XL: convert it"}


@pytest.mark.parametrize(("unread", "stops"), [(0, False), (5, False), (6, True)])
def test_the_share_decides(unread: int, stops: bool) -> None:
    paths = [*(f"{n}.png" for n in range(100 - unread)), *(f"{n}.HEIC" for n in range(unread)), "notes.txt"]
    if not stops:
        return refuse_unread("set", paths, HERE, NOT_HERE, 0.05)
    says = r"set: 6 of 100 samples have formats that are not read \(6 \.heic\).*max_unknown_formats.*HEIC"
    with pytest.raises(DataError, match=says):
        refuse_unread("set", paths, HERE, NOT_HERE, 0.05)


def test_every_ending_is_counted_and_each_remedy_is_said_once() -> None:
    with pytest.raises(
        DataError, match=r"\(2 \.heic, 1 \.jxl\).*: HEIC: install it; JPEG XL: convert it; or raise"
    ):
        refuse_unread("set", ["a.heic", "b.heic", "c.jxl"], HERE, NOT_HERE, 0.5)
    refuse_unread("set", ["a.heic", "b.heic", "c.jxl"], HERE, NOT_HERE, 1.0)
    refuse_unread("set", [], HERE, NOT_HERE, 0.0)


def test_half_a_folder_of_another_format_stops_the_first_phase(tmp_path: Path) -> None:
    ending = next(iter(KINDS.unread_endings))
    for n in range(6):
        for label in ("red", "blue"):
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / label / f"{n}.png").write_bytes(encode(picture(n)))
            (tmp_path / label / f"{n}{ending}").write_bytes(b"x")
    with pytest.raises(DataError, match=rf"12 of 24 samples have formats that are not read \(12 {ending}\)"):
        ingest_data(config(tmp_path))
    names = [f"{label}/{n}{ending},{label}" for label in ("red", "blue") for n in range(6)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *names]))
    with pytest.raises(DataError, match=rf"12 of 12 samples have formats that are not read \(12 {ending}\)"):
        ingest_data(config(tmp_path / "list.csv"))


def test_a_folder_of_nothing_else_says_what_to_do_too(tmp_path: Path) -> None:
    (tmp_path / "red").mkdir()
    (tmp_path / "red/1.jxl").write_bytes(b"x")
    with pytest.raises(DataError, match=r"1 of 1 samples .*JPEG XL: convert to PNG or JPEG"):
        ingest_data(config(tmp_path))
