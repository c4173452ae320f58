"""What may stand in ingest_data.path, and what must hold of the manifest that comes out."""

import hashlib
from pathlib import Path

import fsspec
import pytest

from steps.core.data.files import Folder
from steps.core.data.settings import Columns
from steps.core.system.errors import DataError
from steps.ingest_data import IngestData, Splits, ingest_data
from steps.runtime.scratch import scratch
from tests.clone import CLASSES, ROOT, write_images
from tests.core.toys import modalities

SPLITS = Splits(train=0.6, val=0.2, test=0.2)


def config(path: object, columns: Columns | None = None) -> IngestData:
    corrections = str(ROOT / "corrections.csv")
    return IngestData(
        path=str(path),
        columns=columns,
        max_unknown_formats=0.05,
        corrections=corrections,
        splits=SPLITS,
        modality=modalities(),
        seed=0,
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "images"
    write_images(folder, 20)
    return folder


def test_a_folder_of_classes_becomes_a_row_per_file_with_its_content_digest(images: Path) -> None:
    table = ingest_data(config(images)).table
    assert set(table["label"]) == set(CLASSES)
    assert len(table) == 60
    for row in table.to_dict("records"):
        assert row["sha256"] == hashlib.sha256((images / row["path"]).read_bytes()).hexdigest()
        assert (row["format"], row["mode"], row["width"], row["height"]) == ("PNG", "RGB", 48, 40)


def test_renaming_the_files_changes_neither_order_nor_splits(images: Path, tmp_path: Path) -> None:
    for path in images.glob("*/*.png"):
        target = tmp_path / path.parent.name / f"z{path.stem[::-1]}.png"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    columns = ["sha256", "label", "split"]
    before, after = ingest_data(config(images)).table, ingest_data(config(tmp_path)).table
    assert before[columns].equals(after[columns])


def test_a_folder_behind_a_url_gives_the_same_rows_and_can_be_read_later(images: Path) -> None:
    remote = fsspec.filesystem("memory")
    for path in images.glob("*/*.png"):
        remote.pipe(f"/bucket/leaves/{path.relative_to(images)}", path.read_bytes())
    manifest = ingest_data(config("memory://bucket/leaves"))
    assert manifest.table.equals(ingest_data(config(images)).table)
    first = manifest.table.iloc[0]
    data = Folder(manifest.root, scratch()).read(first["path"])
    assert hashlib.sha256(data).hexdigest() == first["sha256"]


def test_a_manifest_file_says_label_split_and_group(images: Path) -> None:
    paths = sorted(path.relative_to(images) for path in images.glob("*/*.png"))
    rows = [f"{path},{path.parent},{'test' if i % 3 == 0 else ''},g{i // 2}" for i, path in enumerate(paths)]
    (images / "list.csv").write_text("path,label,split,group\n" + "\n".join(rows))
    manifest = ingest_data(config(images / "list.csv"))
    (images / "list.csv").unlink()
    given = {str(path) for i, path in enumerate(paths) if i % 3 == 0}
    table = manifest.table
    assert given <= set(table[table["split"] == "test"]["path"])
    free = table[~table["path"].isin(given)]
    assert (free.groupby("group")["split"].nunique() == 1).all()
    assert Path(manifest.root) == images


def test_split_folders_are_taken_as_they_are_and_a_missing_val_comes_out_of_train(
    images: Path, tmp_path: Path
) -> None:
    for i, path in enumerate(sorted(images.glob("*/*.png"))):
        target = tmp_path / ("test" if i % 4 == 0 else "train") / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    table = ingest_data(config(tmp_path)).table
    assert set(table["split"]) == {"train", "val", "test"}
    assert all(
        (row["split"] == "test") == row["path"].startswith("test/") for row in table.to_dict("records")
    )


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (["train/a.png", "test/b.png"], "names of splits"),
        (["train/cat/a.png", "unlabelled/b.png"], "names of splits"),
        (["a.png"], "lies in no class folder"),
        (["cat/notes.doc"], "holds no samples"),
    ],
)
def test_a_layout_that_could_mean_two_things_is_refused(tmp_path: Path, layout: list[str], said: str) -> None:
    for name in layout:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=said):
        ingest_data(config(tmp_path))


def test_a_folder_that_does_not_exist_is_named_with_the_key_to_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist: set ingest_data\.path"):
        ingest_data(config(tmp_path / "nowhere"))
