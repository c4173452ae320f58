import hashlib
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.core.data.files import Folder
from steps.core.data.layouts import read_layout
from steps.core.data.splits import SPLITS, assign_splits
from steps.core.system.errors import DataError
from tests.core.toys import KINDS

FRACTIONS = {"train": 0.6, "val": 0.15, "test": 0.25}


def touch(root: Path, *paths: str) -> str:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"pixels")
    return str(root)


def records(root: str, tmp_path: Path) -> list[tuple[Any, ...]]:
    table = read_layout(root, tmp_path / "remote", KINDS)[1]
    assert list(table.columns) == ["path", "label", "split", "group"]
    return [tuple(None if v != v else v for v in row) for row in table.itertuples(index=False)]


def manifest(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "manifest.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def parquet(tmp_path: Path, **columns: list[Any]) -> str:
    pd.DataFrame(columns).to_parquet(tmp_path / "manifest.parquet")
    return str(tmp_path / "manifest.parquet")


def test_class_folders_give_labels_and_no_splits(tmp_path: Path) -> None:
    root = touch(tmp_path / "d", "dog/1.png", "cat/2.JPG", "cat/deep/3.webp", "cat/notes.txt", "x.md")
    assert records(root, tmp_path) == [
        ("cat/2.JPG", "cat", None, None),
        ("cat/deep/3.webp", "cat", None, None),
        ("dog/1.png", "dog", None, None),
    ]


def test_split_folders_are_known_by_all_their_names(tmp_path: Path) -> None:
    root = touch(tmp_path / "d", "Training/cat/1.png", "validation/cat/2.png", "TEST/dog/3.png")
    assert records(root, tmp_path) == [
        ("TEST/dog/3.png", "dog", "test", None),
        ("Training/cat/1.png", "cat", "train", None),
        ("validation/cat/2.png", "cat", "val", None),
    ]


@pytest.mark.parametrize("odd", ["extra/cat/3.png", "train/3.png"])
def test_split_folders_beside_something_else_are_never_taken_for_classes(tmp_path: Path, odd: str) -> None:
    root = touch(tmp_path / "d", "train/cat/1.png", "test/dog/2.png", odd)
    with pytest.raises(DataError, match=r"'test', 'train'\] are names of splits: expected split/class/file"):
        records(root, tmp_path)


def test_a_class_that_is_called_like_a_split_is_refused_rather_than_misread(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a manifest can say anything"):
        records(touch(tmp_path / "d", "cat/1.png", "test/2.png"), tmp_path)


def test_a_picture_outside_of_any_class_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"loose\.png lies in no class folder"):
        records(touch(tmp_path / "d", "cat/1.png", "loose.png"), tmp_path)


def test_a_folder_without_pictures_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no samples .*: expected class/file, split/class/file, or"):
        records(touch(tmp_path / "d", "cat/1.doc"), tmp_path)


def test_the_order_in_which_files_were_made_changes_nothing(tmp_path: Path) -> None:
    paths = [f"{label}/{n}.png" for label in "abc" for n in range(4)]
    one = records(touch(tmp_path / "one", *paths), tmp_path)
    assert one == records(touch(tmp_path / "two", *reversed(paths)), tmp_path)


def test_a_csv_manifest_is_read_with_numbers_and_spaces_as_they_are_written(tmp_path: Path) -> None:
    path = manifest(tmp_path, "label,path,extra\n007,a b.png,x\n1.50,ü.png,y\n")
    assert records(path, tmp_path) == [("a b.png", "007", None, None), ("ü.png", "1.50", None, None)]


def test_a_csv_manifest_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = manifest(tmp_path, b"\xef\xbb\xbfpath,label,split,group\na.png,cat,dev,7\n")
    assert records(path, tmp_path) == [("a.png", "cat", "val", "7")]


def test_paths_of_a_manifest_are_relative_to_its_folder(tmp_path: Path) -> None:
    touch(tmp_path, "pics/a.png")
    place = manifest(tmp_path, "path,label\npics/a.png,cat\n")
    root, table = read_layout(place, tmp_path / "remote", KINDS)
    folder = Folder(root, tmp_path / "remote")
    assert folder.read(table["path"][0]) == b"pixels"


def test_a_parquet_manifest_says_the_same_as_a_csv_one(tmp_path: Path) -> None:
    path = parquet(tmp_path, path=["a.png", "b.png"], label=[1, 2], split=["train", "test"])
    text = manifest(tmp_path, "path,label,split\na.png,1,train\nb.png,2,test\n")
    assert records(path, tmp_path) == records(text, tmp_path)


BAD_MANIFESTS = {
    "latin-1": ("path,label\na.png,é\n".encode("latin-1"), "in UTF-8"),
    "nothing at all": (b"", "cannot be read"),
    "no label": (b"path,class\na.png,cat\n", r"no column \['label'\]; found \['path', 'class'\]"),
    "no columns that count": (b"a,b\n1,2\n", r"the columns \['a', 'b'\]: expected one called path"),
    "an empty label": (b"path,label\na.png,cat\nb.png,\n", r"manifest\.csv line 3: label is empty"),
    "an empty path": (b"path,label\n,cat\n", "line 2: path is empty"),
    "an unknown split": (b"path,label,split\na.png,cat,holdout\n", r"split is \['holdout'\]; expected one"),
    "a row that is too long": (b"path,label\na.png,cat\nb.png,cat,x,y\n", "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_a_bad_csv_manifest_is_refused_with_what_is_wrong(tmp_path: Path, name: str) -> None:
    content, says = BAD_MANIFESTS[name]
    with pytest.raises(DataError, match=says) as caught:
        records(manifest(tmp_path, content), tmp_path)
    assert "manifest.csv" in str(caught.value)


def test_a_bad_parquet_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"manifest\.parquet cannot be read"):
        records(str(tmp_path / "manifest.parquet"), tmp_path)
    with pytest.raises(DataError, match=r"line 3: label is empty"):
        records(parquet(tmp_path, path=["a", "b"], label=["cat", None]), tmp_path)


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a folder nor a manifest"):
        records(touch(tmp_path, "data.zip") + "/data.zip", tmp_path)


def test_a_class_may_be_called_none(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\na.png,None\nb.png,NA\nc.png,nan\n")
    assert [label for _, label, _, _ in records(path, tmp_path)] == ["None", "NA", "nan"]


def test_rows_that_are_all_too_long_never_move_the_columns(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label\na.png,cat,3,4\nb.png,dog,5,6\n")
    try:
        found = records(path, tmp_path)
    except DataError:
        return
    assert [row[:2] for row in found] == [("a.png", "cat"), ("b.png", "dog")]


@pytest.mark.parametrize("label", ["", "  "])
def test_a_label_of_nothing_but_spaces_is_empty(tmp_path: Path, label: str) -> None:
    with pytest.raises(DataError, match="label is empty"):
        records(parquet(tmp_path, path=["a.png"], label=[label]), tmp_path)


def test_a_manifest_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        records(manifest(tmp_path, "path,label\n"), tmp_path)


# assign_splits


def samples(rows: list[tuple[str, Any, Any]]) -> pd.DataFrame:
    """Rows of (content, group, split)."""
    table = pd.DataFrame(rows, columns=["content", "group", "split"]).astype(object)
    table = table.where(table.notna(), None)
    return table.assign(sha256=[hashlib.sha256(c.encode()).hexdigest() for c in table["content"]])


CONTENTS = st.lists(
    st.tuples(st.text("abcdef", min_size=1, max_size=3), st.sampled_from([None, "g1", "g2"]), st.none()),
    min_size=1,
    max_size=30,
)


@given(CONTENTS, CONTENTS, st.integers(0, 99), st.randoms())
def test_adding_and_shuffling_files_never_moves_old_ones(
    old: list[tuple[str, Any, Any]], new: list[tuple[str, Any, Any]], seed: int, dice: Any
) -> None:
    before = dict(zip([row[:2] for row in old], assign_splits(samples(old), FRACTIONS, seed), strict=True))
    everything = [*old, *new]
    dice.shuffle(everything)
    after = assign_splits(samples(everything), FRACTIONS, seed)
    for row, split in zip(everything, after, strict=True):
        assert before.get(row[:2], split) == split


@given(CONTENTS, st.integers(0, 99))
def test_members_of_a_group_and_copies_of_a_picture_are_never_separated(
    rows: list[tuple[str, Any, Any]], seed: int
) -> None:
    found: dict[str, set[str]] = {}
    for (content, group, _), split in zip(rows, assign_splits(samples(rows), FRACTIONS, seed), strict=True):
        found.setdefault(group or f"/{content}", set()).add(split)
    assert all(len(splits) == 1 for splits in found.values())


@given(
    st.lists(st.tuples(st.text("abcdef", min_size=1), st.none(), st.sampled_from(SPLITS)), min_size=1),
    st.integers(0, 99),
)
def test_given_val_and_test_rows_stay_where_they_are(rows: list[tuple[str, Any, Any]], seed: int) -> None:
    rows = [("a", None, "train"), *rows]
    given_splits = {split for _, _, split in rows}
    for (_, _, split), found in zip(rows, assign_splits(samples(rows), FRACTIONS, seed), strict=True):
        if split == "train":
            assert found == "train" or found not in given_splits
        else:
            assert found == split


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_missing_split_is_carved_out_of_train_in_its_share(missing: str) -> None:
    present = ({"val", "test"} - {missing}).pop()
    rows = [(f"t{n}", None, "train") for n in range(4000)] + [(f"p{n}", None, present) for n in range(500)]
    found = Counter(assign_splits(samples(rows), FRACTIONS, 0))
    share = FRACTIONS[missing] / (FRACTIONS["train"] + FRACTIONS[missing])
    assert found[present] == 500
    assert abs(found[missing] / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1))
def test_the_fractions_are_met_within_five_standard_errors(seed: int, val: float, test: float) -> None:
    total = 1 + val + test
    fractions = {"train": 1 / total, "val": val / total, "test": test / total}
    found = Counter(assign_splits(samples([(f"{n}", None, None) for n in range(5000)]), fractions, seed))
    for split, share in fractions.items():
        assert abs(found[split] / 5000 - share) <= 5 * (share * (1 - share) / 5000) ** 0.5 + 1e-9


def test_another_seed_splits_otherwise_and_the_same_seed_alike() -> None:
    table = samples([(f"{n}", None, None) for n in range(200)])
    first = assign_splits(table, FRACTIONS, 1)
    assert first == assign_splits(table, FRACTIONS, 1)
    assert first != assign_splits(table, FRACTIONS, 2)


@given(st.integers(0, 99), st.floats(0.01, 0.3), st.floats(0.01, 0.3))
def test_the_members_of_test_depend_on_the_share_of_test_alone(seed: int, val: float, other: float) -> None:
    table = samples([(f"{n}", None, None) for n in range(100)])
    tests = [
        [s == "test" for s in assign_splits(table, {"train": 0.7 - v, "val": v, "test": 0.3}, seed)]
        for v in (val, other)
    ]
    assert tests[0] == tests[1]


def test_splits_without_train_are_refused() -> None:
    with pytest.raises(DataError, match=r"splits \['test'\] but no train"):
        assign_splits(samples([("a", None, "test")]), FRACTIONS, 0)


def test_a_row_without_a_split_gets_one_although_others_bring_theirs(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label,split\na.png,x,train\nb.png,y,\nc.png,y,test\n")
    table = read_layout(path, tmp_path / "remote", KINDS)[1].assign(sha256=["1", "2", "3"])
    found = assign_splits(table, FRACTIONS, 0)
    assert set(found) <= set(SPLITS)
    assert found[2] == "test"


def test_rows_without_a_split_join_a_data_set_that_brings_its_test_split_only() -> None:
    rows = [("t", None, "test"), *((f"{n}", None, None) for n in range(400))]
    found = Counter(assign_splits(samples(rows), FRACTIONS, 0))
    assert found["test"] == 1
    assert found["train"] > found["val"] > 0


def test_a_group_of_numbers_is_kept_together(tmp_path: Path) -> None:
    path = parquet(tmp_path, path=[f"{n}.png" for n in range(40)], label=["x"] * 40, group=[1, 2] * 20)
    table = read_layout(path, tmp_path / "remote", KINDS)[1]
    table["sha256"] = [hashlib.sha256(p.encode()).hexdigest() for p in table["path"]]
    found = assign_splits(table, FRACTIONS, 0)
    assert len({*found[::2]}) == len({*found[1::2]}) == 1


def test_bytes_of_a_manifest_are_read_as_csv_by_name_only(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pd.DataFrame({"path": ["a"], "label": ["x"]}).to_parquet(buffer)
    with pytest.raises(DataError, match="cannot be read as a manifest"):
        records(manifest(tmp_path, buffer.getvalue()), tmp_path)


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8).filter(
    lambda text: text.strip() != ""
)
ROWS = st.lists(
    st.tuples(WORDS, WORDS, st.sampled_from([None, "train", "val", "test"]), st.none() | WORDS),
    min_size=1,
    max_size=12,
)


@given(
    ROWS,
    st.sampled_from(["csv", "parquet"]),
    st.booleans(),
    st.permutations(["path", "label", "split", "group"]),
)
def test_whatever_a_manifest_says_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], ending: str, marked: bool, order: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    table = pd.DataFrame(rows, columns=["path", "label", "split", "group"]).astype(object)[order]
    path = folder / f"list.{ending}"
    if ending == "csv":
        table.to_csv(path, index=False, encoding="utf-8-sig" if marked else "utf-8")
    else:
        table.to_parquet(path)
    assert records(str(path), folder) == rows


@given(st.binary(max_size=200), st.sampled_from(["csv", "parquet"]))
def test_whatever_bytes_a_manifest_has_it_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, ending: str
) -> None:
    path = tmp_path_factory.mktemp("manifest") / f"list.{ending}"
    path.write_bytes(data)
    found, refusal = [], ""
    try:
        found = records(str(path), path.parent)
    except DataError as error:
        refusal = str(error)
    assert found or path.name in refusal
    assert all(isinstance(row[1], str) and row[1].strip() for row in found)


def test_rows_without_a_split_follow_the_held_out_ones_of_their_group_or_content() -> None:
    rows = [(f"{n}", f"g{n % 40}", "test" if n < 10 else None) for n in range(200)]
    found = assign_splits(samples(rows), FRACTIONS, 0)
    of_group: dict[str | None, set[str]] = {}
    for (_, group, _), split in zip(rows, found, strict=True):
        of_group.setdefault(group, set()).add(split)
    assert all(len(splits) == 1 for splits in of_group.values())
    assert all(of_group[f"g{n}"] == {"test"} for n in range(10))
    lone = assign_splits(
        samples([("a", None, "test"), ("a", None, None), ("b", None, "train")]), FRACTIONS, 0
    )
    assert lone[:2] == ["test", "test"]


def test_one_class_name_in_two_spellings_of_unicode_is_one_class(tmp_path: Path) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    for number, name in enumerate((composed, apart)):
        folder = tmp_path / "set" / name
        folder.mkdir(parents=True)
        (folder / f"{number}.png").write_bytes(b"x")
    _, table = read_layout(str(tmp_path / "set"), tmp_path / "cache", KINDS)
    assert set(table["label"]) == {composed}
    (tmp_path / "set.csv").write_text(
        f"path,label\na.png,{apart}\nb.png,{composed}\nc.png,{apart}|x\n", "utf-8"
    )
    _, table = read_layout(str(tmp_path / "set.csv"), tmp_path / "cache", KINDS)
    assert set(table["labels"]) == {composed, f"{composed}|x"}
