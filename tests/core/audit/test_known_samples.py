"""What a model has learnt from is found again, by its bytes and by its picture."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from steps.core.audit.known_samples import (
    known_rows,
    learnt,
    recognise,
    with_prints,
)
from steps.core.modalities.image.prints import SIDE
from steps.core.system.storage import read_table, table_bytes
from tests.bench.planted_defects import NEAR, jpeg, pictures
from tests.core.toys import IMAGE

SHOWN = [image for _, image in pictures(60, first=4000)]
LIMITS = (0.95, 0.1)  # as params.yaml has them


def write(
    folder: Path, images: list[Image.Image], split: str, kind: str = "PNG", first: int = 0
) -> pd.DataFrame:
    """Write pictures to `folder`; return their rows."""
    rows = []
    for number, image in enumerate(images):
        buffer = io.BytesIO()
        image.save(buffer, kind, **({"quality": 80} if kind == "JPEG" else {}))
        path = f"{split}-{first + number}.{kind.lower()}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(buffer.getvalue())
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        rows.append({"path": path, "sha256": digest, "split": split, "label": "a"})
    return pd.DataFrame(rows)


def printed(folder: Path, table: pd.DataFrame, count: int = 1000) -> pd.DataFrame:
    return with_prints(IMAGE, str(folder), table.reset_index(drop=True), count, folder.parent / "scratch")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """What is kept with a model that was trained on the first 30 pictures."""
    folder = tmp_path_factory.mktemp("known") / "data"
    return known_rows(printed(folder, write(folder, SHOWN[:30], "train")), None)


def test_the_same_bytes_are_known_and_other_pictures_are_not(tmp_path: Path, known: pd.DataFrame) -> None:
    asked = printed(tmp_path / "data", write(tmp_path / "data", SHOWN[20:50], "test"))
    found = recognise(IMAGE, asked, learnt(known), *LIMITS)
    assert found.by_bytes.sum() == 10
    assert set(asked["sha256"][found.by_bytes]) == set(asked["sha256"]) & set(known["sha256"])
    assert not found.by_print.any()
    assert found.said("the champion") == (
        "the champion has learnt from 10 (10 by their bytes, 0 by their print)"
    )


@pytest.mark.parametrize("kind", ["saved again", *NEAR])
def test_a_known_picture_that_was_saved_again_or_changed_a_little_is_known(
    tmp_path: Path, known: pd.DataFrame, kind: str
) -> None:
    change = NEAR.get(kind, lambda image: image)
    copies = [Image.open(io.BytesIO(jpeg(change(image), 75))) for image in SHOWN[:10]]
    table = pd.concat([
        write(tmp_path / "data", copies, "test", "JPEG"),
        write(tmp_path / "data", SHOWN[30:60], "test", first=10),
    ])  # fmt: skip
    asked = printed(tmp_path / "data", table)
    found = recognise(IMAGE, asked, learnt(known), *LIMITS)
    copied = asked["sha256"].isin(table["sha256"].iloc[:10]).to_numpy()
    assert not found.by_bytes.any(), "by its bytes it would pass for unknown"
    assert found.by_print[copied].all()
    assert not found.by_print[~copied].any()


def test_many_copies_of_one_known_picture_are_all_found(tmp_path: Path, known: pd.DataFrame) -> None:
    copies = [Image.open(io.BytesIO(jpeg(SHOWN[0], quality))) for quality in range(60, 90)]
    table = write(tmp_path / "data", [*copies, *SHOWN[30:50]], "test")
    asked = printed(tmp_path / "data", table)
    found = recognise(IMAGE, asked, learnt(known), *LIMITS)
    assert found.by_print.sum() == len(copies), "more than the nearest neighbours that are looked at"


def test_flat_pictures_are_nobody_s_copy(tmp_path: Path) -> None:
    black = [Image.new("RGB", (60 + n, 50)) for n in range(4)]
    mine = printed(tmp_path / "a", write(tmp_path / "a", [*black[:2], *SHOWN[:20]], "train"))
    asked = printed(tmp_path / "b", write(tmp_path / "b", [*black[2:], *SHOWN[20:40]], "test"))
    assert not recognise(IMAGE, asked, mine, *LIMITS).any.any()


def test_a_version_of_before_there_were_prints_is_held_by_bytes_and_that_is_said(
    tmp_path: Path, known: pd.DataFrame
) -> None:
    old = learnt(known[["sha256", "split", "label"]])
    copies = [Image.open(io.BytesIO(jpeg(image, 75))) for image in SHOWN[:5]]
    table = pd.concat([
        write(tmp_path / "data", copies, "test", "JPEG"),
        write(tmp_path / "data", SHOWN[20:40], "test", first=5),
    ])  # fmt: skip
    found = recognise(IMAGE, printed(tmp_path / "data", table), old, *LIMITS)
    assert (found.by_bytes.sum(), found.by_print.sum()) == (10, 0)
    assert "no prints are kept with it, so samples that were saved again pass for unknown" in found.said("it")


def test_prints_are_made_of_a_bounded_number_of_samples_and_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    table = pd.concat([write(folder, SHOWN[:20], "train"), write(folder, SHOWN[20:40], "test")])
    own = printed(folder, table, count=8)
    for split in ("train", "test"):
        rows = own[own["split"] == split]
        assert rows["print"].notna().sum() == 8
        assert rows["print"].iloc[:8].notna().all(), "in the order of the digests"
    assert {len(data) for data in own["print"].dropna()} == {SIDE * SIDE}
    found = recognise(IMAGE, own[own["split"] == "test"], learnt(own), *LIMITS)
    assert "prints are kept of 8 of its 20 samples" in found.said("it")


def test_prints_are_made_once(tmp_path: Path) -> None:
    table = write(tmp_path / "data", SHOWN[:5], "train")
    once = printed(tmp_path / "data", table)
    for path in (tmp_path / "data").iterdir():
        path.unlink()
    pd.testing.assert_frame_equal(printed(tmp_path / "data", table), once)


def test_a_model_that_goes_on_from_another_has_learnt_from_what_that_had(
    tmp_path: Path, known: pd.DataFrame
) -> None:
    folder = tmp_path / "data"
    table = pd.concat([
        write(folder, SHOWN[25:40], "train"), write(folder, SHOWN[40:45], "val"),
        write(folder, SHOWN[:3], "test"),
    ])  # fmt: skip
    kept = known_rows(printed(folder, table), known)
    path = tmp_path / "known.parquet"
    path.write_bytes(table_bytes(kept))
    again = read_table(path)
    assert kept["print"][kept["split"] == "test"].isna().all(), "nothing was learnt from them"
    inherited = again[again["inherited"]]
    assert len(inherited) == 30 - 5 - 3, "those that its own data set does not have"
    assert inherited["print"].notna().all()
    assert table_bytes(again) == path.read_bytes()
    mirrored = [ImageOps.mirror(image) for image in SHOWN[5:10]]
    table = write(tmp_path / "more", [*mirrored, *SHOWN[45:60]], "test")
    asked = printed(tmp_path / "more", table)
    found = recognise(IMAGE, asked, learnt(again), *LIMITS)
    assert set(asked["sha256"][found.any]) == set(table["sha256"].iloc[:5]), "at one remove"


def test_an_ancestor_of_before_there_were_prints_is_inherited_without_them(
    tmp_path: Path, known: pd.DataFrame
) -> None:
    folder = tmp_path / "data"
    own = printed(folder, write(folder, SHOWN[30:40], "train"))
    kept = known_rows(own, known[["sha256", "split", "label"]])
    assert kept["inherited"].sum() == 30
    assert kept["print"][kept["inherited"]].isna().all()
    assert np.array_equal(kept["sha256"][~kept["inherited"]], own["sha256"])
