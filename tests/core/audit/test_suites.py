import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from steps.core.audit.limits import Limits
from steps.core.audit.suites import (
    corrections_finding,
    load_suites,
    quarantine_finding,
    run_suites,
    tables_of,
)
from steps.core.data.files import Folder
from steps.core.modalities.image.scan import scan_files
from steps.core.modalities.image.settings import Settings
from steps.core.system.errors import ParamsError
from steps.core.tasks.labelling import LABEL_SETS
from tests.clone import ROOT
from tests.core.audit.test_limits import GOOD
from tests.core.toys import LABELS, Pictures, draw_pictures, encode, image_settings, picture
from tests.core.toys import described as describe_table

FRACTIONS = {"train": 12 / 27, "val": 9 / 27, "test": 6 / 27}
CHANGES = {"labels": LABELS, "min_per_class": 2, "max_unreadable": 0.0}
LIMITS = Limits(**{**GOOD, **CHANGES})
SETTINGS = image_settings(formats=["PNG"], max_side=1000)
SUITE = ROOT / "expectations.json"


def described(pictures: Pictures) -> pd.DataFrame:
    """The table as it comes from the listing and the decoding."""
    table = pictures.table[["path", "label", "split"]].assign(group=None)
    return decoded(pictures, describe_table(pictures.folder(), table.assign(corrected_from=None)))


def decoded(pictures: Pictures, table: pd.DataFrame) -> pd.DataFrame:
    """The table with what decoding found."""
    facts = scan_files(pictures.folder(), table, len(table)).facts
    return table.assign(error=facts["error"].to_numpy(dtype=object))


def read_suites(
    file: Path = SUITE, settings: Settings = SETTINGS, limits: Limits = LIMITS, fractions: Any = FRACTIONS
) -> dict[str, list[dict[str, Any]]]:
    return load_suites(file, limits, settings, "image", fractions)


def judged(
    table: pd.DataFrame, limits: Limits = LIMITS, settings: Settings = SETTINGS
) -> dict[str, dict[str, Any]]:
    """The findings by what they are about."""
    findings = [
        quarantine_finding(table),
        *run_suites(table, read_suites(settings=settings, limits=limits), "image"),
    ]
    assert len({finding["check"] for finding in findings}) == len(findings)
    return {finding["check"]: finding for finding in findings}


def failures(findings: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: found["verdict"] for name, found in findings.items() if found["verdict"] != "pass"}


@pytest.fixture
def own(tmp_path: Path) -> Pictures:
    return draw_pictures(tmp_path / "own")


def put(own: Pictures, path: str, data: bytes) -> None:
    (own.root / path).write_bytes(data)


def test_a_clean_table_gives_only_passes(pictures: Pictures) -> None:
    findings = judged(described(pictures))
    assert failures(findings) == {}
    assert len(findings) == 1 + 10 + 3 + 3 + 4 + 3
    assert all(found["remedy"] == "" and found["files"] == [] for found in findings.values())


UNREADABLE, DUPLICATE, FORMAT = (
    "samples can be read",
    "every content occurs once",
    "file formats are allowed ones",
)
LABEL, QUARANTINE = "labels are in the list", "no sample had to be left out"
SIZES = {"height lies between the limits", "width lies between the limits"}


def cell(split: str) -> str:
    return f"every class has samples in {split}"


def test_an_unreadable_file_is_quarantined_with_its_reason_and_fails_above_the_limit(own: Pictures) -> None:
    whole = (own.root / "train/red/0.png").read_bytes()
    put(own, "train/red/0.png", whole[: len(whole) // 2])  # the header is whole: decoding has to find it
    put(own, "train/green/1.png", b"no image")
    findings = judged(described(own))
    assert set(failures(findings)) - SIZES == {QUARANTINE, UNREADABLE}
    assert (findings[QUARANTINE]["verdict"], findings[UNREADABLE]["verdict"]) == ("warn", "fail")
    assert set(findings[UNREADABLE]["files"]) == {"train/red/0.png", "train/green/1.png"}
    quarantined = {row["path"]: row["reason"] for row in findings[QUARANTINE]["quarantined"]}
    assert "cannot be decoded" in quarantined["train/red/0.png"]
    assert "not a readable image" in quarantined["train/green/1.png"]
    assert "max_unreadable" in findings[UNREADABLE]["remedy"]


def test_unreadable_files_up_to_the_limit_are_left_out_and_the_run_goes_on(own: Pictures) -> None:
    put(own, "train/red/0.png", b"no image")
    findings = judged(described(own), LIMITS.model_copy(update={"max_unreadable": 0.05}))
    assert set(failures(findings)) - SIZES == {QUARANTINE}
    assert findings[QUARANTINE]["observed"] == "1 of 27"


def test_a_file_that_has_gone_is_quarantined_too(own: Pictures) -> None:
    table = pictures_table(own)
    (own.root / "val/blue/2.png").unlink()
    found = quarantine_finding(decoded(own, table))
    assert [row["path"] for row in found["quarantined"]] == ["val/blue/2.png"]


def pictures_table(own: Pictures) -> pd.DataFrame:
    table = own.table[["path", "label", "split"]].assign(group=None, corrected_from=None)
    return describe_table(own.folder(), table)


@pytest.mark.parametrize(("choice", "verdict"), [("warn", "warn"), ("fail", "fail"), ("pass", None)])
def test_both_files_of_a_duplicated_content_are_named(
    own: Pictures, choice: str, verdict: str | None
) -> None:
    put(own, "test/red/1.png", (own.root / "train/red/0.png").read_bytes())
    findings = judged(described(own), LIMITS.model_copy(update={"duplicates": choice}))
    assert failures(findings) == ({DUPLICATE: verdict} if verdict else {})
    if verdict:
        assert set(findings[DUPLICATE]["files"]) == {"test/red/1.png", "train/red/0.png"}


def test_an_unexpected_format_fails_and_is_named(own: Pictures) -> None:
    put(own, "train/blue/3.png", encode(picture(99), "JPEG"))
    findings = judged(described(own))
    assert failures(findings) == {FORMAT: "fail"}
    assert findings[FORMAT]["files"] == ["train/blue/3.png"]
    assert findings[FORMAT]["values"] == ["JPEG"]
    assert "modality.image.formats" in findings[FORMAT]["remedy"]


def test_a_label_that_is_not_in_the_list_fails_and_is_named(own: Pictures) -> None:
    table = described(own)
    table.loc[table["path"] == "val/green/1.png", "label"] = "grene"
    findings = judged(table)
    assert failures(findings) == {
        LABEL: "fail",
        cell("train"): "fail",
        cell("val"): "warn",
        cell("test"): "warn",
    }
    assert (findings[LABEL]["files"], findings[LABEL]["values"]) == (["val/green/1.png"], ["grene"])
    assert all(findings[cell(split)]["files"] == ["grene"] for split in ("train", "val", "test"))
    any_label = judged(table, LIMITS.model_copy(update={"labels": None}))
    assert LABEL not in any_label


@pytest.mark.parametrize(("split", "verdict"), [("train", "fail"), ("val", "warn"), ("test", "warn")])
def test_a_class_that_is_missing_in_a_split_is_named(own: Pictures, split: str, verdict: str) -> None:
    table = described(own)
    findings = judged(table[~table["path"].str.startswith(f"{split}/red/")])
    assert failures(findings) == {cell(split): verdict}
    assert findings[cell(split)]["files"] == ["red"]
    assert findings[cell(split)]["values"] == ["0"]


def test_a_class_whose_only_pictures_are_unreadable_is_missing(own: Pictures) -> None:
    for number in (0, 1):
        put(own, f"test/red/{number}.png", b"no image")
    findings = judged(described(own), LIMITS.model_copy(update={"max_unreadable": 0.5}))
    assert findings[cell("test")]["files"] == ["red"]


def test_a_file_that_cannot_be_read_is_not_accused_of_being_small_too(own: Pictures) -> None:
    put(own, "train/red/0.png", b"no image")
    assert not set(failures(judged(described(own)))) & SIZES


@pytest.mark.parametrize(
    ("keep", "fails"),
    [
        ("train|val", "there are enough test samples"),
        ("train|test", "there are enough validation samples"),
        ("val|test", "there are enough training samples"),
        ("red", "there are classes enough"),
    ],
)
def test_a_data_set_without_a_split_or_with_a_single_class_fails(
    own: Pictures, keep: str, fails: str
) -> None:
    table = described(own)
    findings = judged(table[table["path"].str.contains(keep)])
    assert findings[fails]["verdict"] == "fail"


def test_a_tiny_image_and_a_gigantic_one_are_warned_of(own: Pictures) -> None:
    put(own, "train/red/1.png", encode(picture(1, 5, 40)))
    put(own, "val/red/1.png", encode(picture(1, 40, 1200)))
    findings = judged(described(own))
    assert failures(findings) == {
        "height lies between the limits": "warn",
        "width lies between the limits": "warn",
    }
    assert findings["height lies between the limits"]["files"] == ["train/red/1.png"]
    assert findings["width lies between the limits"]["files"] == ["val/red/1.png"]


def test_a_split_far_from_its_share_is_warned_of(own: Pictures) -> None:
    table = described(own)
    findings = run_suites(table, read_suites(fractions={"train": 0.8, "val": 0.1, "test": 0.1}), "image")
    warned = {found["check"] for found in findings if found["verdict"] == "warn"}
    assert warned == {f"the share of {split} is near the one asked for" for split in ("train", "val", "test")}


def test_a_path_that_occurs_twice_and_an_unknown_split_fail(own: Pictures) -> None:
    table = described(own)
    table = pd.concat([table, table.tail(1)], ignore_index=True)
    table.loc[0, "split"] = "holdout"
    findings = judged(table)
    fails = [name for name, verdict in failures(findings).items() if verdict == "fail"]
    assert set(fails) == {"every path occurs once", "splits are known"}
    assert findings["splits are known"]["values"] == ["holdout"]


def test_a_finding_shows_some_files_and_counts_all(tmp_path: Path) -> None:
    own = draw_pictures(tmp_path / "own", {"train": 10, "val": 2, "test": 2})
    findings = judged(described(own), settings=SETTINGS.model_copy(update={"formats": ["JPEG"]}))
    assert findings[FORMAT]["affected"] == 42
    assert len(findings[FORMAT]["files"]) == 20
    assert findings[FORMAT]["observed"] == "42 of 42"


def test_the_suites_are_plain_json_types_and_say_what_to_do() -> None:
    suites = read_suites()
    assert set(suites) == {"samples", "image", "cells", "splits"}
    for row in [row for rows in suites.values() for row in rows]:
        assert set(row) == {"type", "kwargs", "meta"}
        assert row["meta"]["verdict"] in ("warn", "fail")
        assert row["meta"]["remedy"]


def test_decoding_keeps_an_error_that_was_known_before(own: Pictures) -> None:
    table = pictures_table(own)
    table.loc[3, "error"] = "known before"
    found = decoded(own, table)
    assert found["error"].dropna().to_dict() == {3: "known before"}
    assert table["error"].notna().sum() == 1


def test_the_tables_count_readable_samples_by_class_and_split(own: Pictures) -> None:
    table = described(own)
    table.loc[table["path"] == "val/red/0.png", "error"] = "broken"
    tables = tables_of(table, "image")
    counts = tables["cells"].set_index("name")
    assert counts.loc["red"].to_dict() == {"train": 4, "val": 2, "test": 2}
    assert counts.to_numpy().sum() == 26
    whole = tables["splits"].iloc[0]
    assert whole["train"] + whole["val"] + whole["test"] == pytest.approx(1)
    assert (whole["classes"], whole["val_samples"]) == (3, 8)


def test_a_lost_column_fails(own: Pictures) -> None:
    suites = read_suites()
    exists = {"samples": [row for row in suites["samples"] if row["type"] == "ExpectColumnToExist"]}
    findings = run_suites(described(own).drop(columns="group"), {**suites, **exists}, "image")
    assert {found["verdict"] for found in findings} == {"pass"}
    row = {**exists["samples"][0], "kwargs": {"column": "weight"}}
    findings = run_suites(described(own), {**suites, "samples": [row]}, "image")
    assert next(found["verdict"] for found in findings) == "fail"


def suite(folder: Path, **tables: Any) -> Path:
    """A suite file of one's own."""
    (folder / "own.json").write_text(json.dumps(tables), encoding="utf-8")
    return folder / "own.json"


LIGHT = {
    "type": "ExpectColumnValuesToBeBetween",
    "kwargs": {"column": "bytes", "max_value": 500},
    "meta": {"verdict": "warn", "says": "files are light", "remedy": "compress them"},
}


def test_a_person_adds_an_expectation_without_a_line_of_code(own: Pictures, tmp_path: Path) -> None:
    heavy = {
        **LIGHT,
        "kwargs": {"column": "bytes", "min_value": 1},
        "meta": {**LIGHT["meta"], "says": "some"},
    }
    findings = run_suites(
        described(own),
        read_suites(suite(tmp_path, image=[LIGHT, heavy])),
        "image",
    )
    assert {found["check"]: found["verdict"] for found in findings} == {
        "files are light": "warn",
        "some": "pass",
    }


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"pictures": [LIGHT]}, "has ['pictures'], expected"),
        ({"image": [{**LIGHT, "type": "ExpectMagic"}]}, "ExpectMagic is no expectation"),
        ({"image": [{**LIGHT, "kwargs": {"column": "$nothing"}}]}, "'nothing'"),
        ({"image": [{"type": "ExpectColumnToExist"}]}, "'meta'"),
        ({"image": ["light"]}, "light"),
    ],
)
def test_a_suite_with_a_mistake_is_refused_by_its_place(tmp_path: Path, tables: Any, says: str) -> None:
    with pytest.raises(ParamsError, match=r"validate_data\.suite") as caught:
        read_suites(suite(tmp_path, **tables))
    assert says in str(caught.value)


def test_arguments_that_an_expectation_refuses_are_named(own: Pictures, tmp_path: Path) -> None:
    odd = {**LIGHT, "kwargs": {"column": "bytes", "value_set": [3]}}
    with pytest.raises(ParamsError, match="'files are light': ExpectColumnValuesToBeBetween refuses"):
        run_suites(
            described(own),
            read_suites(suite(tmp_path, image=[odd])),
            "image",
        )


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_a_suite_that_is_no_table_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "own.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ParamsError, match=r"own\.json cannot be read"):
        read_suites(tmp_path / "own.json")


def test_labels_that_a_person_has_corrected_are_recorded(own: Pictures) -> None:
    table = described(own)
    assert corrections_finding(table)["affected"] == 0
    table.loc[table["path"] == "val/red/0.png", ["label", "corrected_from"]] = ["green", "red"]
    found = corrections_finding(table)
    assert (found["files"], found["values"], found["verdict"]) == (
        ["val/red/0.png"],
        ["red -> green"],
        "pass",
    )


def test_a_folder_elsewhere_is_not_touched_by_the_checks(own: Pictures) -> None:
    before = {p: p.read_bytes() for p in own.root.rglob("*") if p.is_file()}
    judged(described(own))
    assert {p: p.read_bytes() for p in own.root.rglob("*") if p.is_file()} == before
    assert Folder(str(own.root), own.root).list() == sorted(own.table["path"])


def test_a_table_of_label_sets_is_checked_label_by_label(pictures: Pictures) -> None:
    table = described(pictures)
    table.loc[table.index[:2], "label"] = ["", "blue|red"]
    cells = tables_of(table, "image", LABEL_SETS)["cells"]
    assert list(cells["name"]) == LABELS
    members = LABEL_SETS.explode(table["label"])
    assert int(cells[["train", "val", "test"]].to_numpy().sum()) == len(members)
    assert (
        int(tables_of(table, "image", LABEL_SETS)["splits"]["train_samples"][0])
        == (table["split"] == "train").sum()
    )
    suites = read_suites()
    found = {row["check"]: row for row in run_suites(table, suites, "image", LABEL_SETS)}
    assert found["labels are in the list"]["verdict"] == "pass"
    strange = table.assign(label=["blue|violet", *table["label"][1:]])
    found = {row["check"]: row for row in run_suites(strange, suites, "image", LABEL_SETS)}
    assert found["labels are in the list"]["values"] == ["blue|violet"]
    assert "violet" in found["every class has samples in train"]["files"]


@pytest.mark.parametrize(
    ("kind", "kwargs", "odd"),
    [
        ("ExpectColumnValuesToNotBeNull", {"row_condition": "@run('touch {mark}')"}, "row_condition"),
        ("ExpectColumnValuesToNotBeNull", {"condition_parser": "pandas"}, "condition_parser"),
        ("ExpectColumnValuesToBeInSet", {"value_set": [{"$PARAMETER": "now()"}]}, "value_set"),
        ("ExpectColumnValuesToBeBetween", {"min_value": {"$PARAMETER": "1"}}, "min_value"),
        ("ExpectColumnValuesToMatchJsonSchema", {"json_schema": {"$ref": "http://evil"}}, "json_schema"),
        ("ExpectColumnValuesToNotBeNull", {"result_format": "BASIC"}, "result_format"),
    ],
)
def test_an_argument_that_could_run_code_is_refused_and_nothing_is_run(
    tmp_path: Path, kind: str, kwargs: dict[str, Any], odd: str
) -> None:
    mark, suite = tmp_path / "mark", tmp_path / "suite.json"
    condition = f"@pd.io.common.os.system('touch {mark}')"
    kwargs = {name: condition if name == "row_condition" else value for name, value in kwargs.items()}
    meta = {"verdict": "fail", "says": "s", "remedy": "r"}
    entry = {"type": kind, "kwargs": {"column": "path", **kwargs}, "meta": meta}
    suite.write_text(json.dumps({"samples": [entry]}))
    with pytest.raises(ParamsError, match=rf"samples: {kind}: {odd} is refused, since it could run code"):
        read_suites(suite)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["UnexpectedRowsExpectation", "BatchExpectation", "core", "__doc__"])
def test_what_is_no_check_of_columns_is_no_expectation(tmp_path: Path, kind: str) -> None:
    suite = tmp_path / "suite.json"
    meta = {"verdict": "fail", "says": "s", "remedy": "r"}
    entry = {"type": kind, "kwargs": {"unexpected_rows_query": "SELECT 1"}, "meta": meta}
    suite.write_text(json.dumps({"samples": [entry]}))
    with pytest.raises(ParamsError, match="is no expectation"):
        read_suites(suite)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"samples": [' * 50_000, '{"samples": [3]}', "[]", "3"])
def test_a_suite_that_is_none_is_refused_in_words(tmp_path: Path, text: str) -> None:
    (tmp_path / "suite.json").write_text(text)
    with pytest.raises(ParamsError, match=r"validate_data\.suite"):
        read_suites(tmp_path / "suite.json")
