"""Identities that names betray are found where the samples agree, and ordinary names are left alone."""

import numpy as np
import pandas as pd
import pytest

from steps.core.audit.identities import candidates, find_identity, identity_findings, parts_of
from steps.core.tasks.labelling import ONE_LABEL
from tests.bench.audit_detectors import limits
from tests.bench.names import BETRAYING, ORDINARY, alarms, named, versions

LIMITS = limits()
SEEDS = range(4)  # the bench takes 20


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("train/virus/person124_virus_247.jpeg", {"person#": "124", "virus#": "247"}),
        ("NORMAL2-IM-1427-0001.jpeg", {"normal#": "2", "im#": "1427", "im-#": "0001"}),
        ("test/virus/patient12/001.png", {"folder 3": "patient12", "#": "001"}),
        ("a3f9c2-1.png", {"code": "a3f9c2", "#": "1"}),
        ("train/virus/leaf.png", {}),
        ("x/2023-05-14 12.30.png", {"#": "2023", "-#": "05", "--#": "14", "---#": "12", "----#": "30"}),
    ],
)
def test_what_could_be_an_identity_in_a_name(path: str, found: dict[str, str]) -> None:
    assert dict(parts_of(path, "virus")) == found


@pytest.mark.parametrize("says", BETRAYING)
def test_a_number_of_the_person_is_found(says: str) -> None:
    assert all(alarms(BETRAYING[says], seed, True, LIMITS) == (True, False) for seed in SEEDS)


@pytest.mark.parametrize("says", ORDINARY)
def test_ordinary_names_are_left_alone(says: str) -> None:
    assert not any(any(alarms(ORDINARY[says], seed, False, LIMITS)) for seed in SEEDS)


@pytest.mark.parametrize("says", BETRAYING)
def test_a_number_that_the_samples_know_nothing_of_is_no_identity(says: str) -> None:
    assert not any(alarms(BETRAYING[says], seed, False, LIMITS)[0] for seed in SEEDS)


def test_persons_of_one_class_each_are_no_matter_of_the_classes() -> None:
    table, z = named(BETRAYING["person124_virus_247"], 0, False)
    z = z + 20 * np.eye(z.shape[1], dtype=np.float16)[pd.factorize(table["label"])[0]]
    assert find_identity(table, z, LIMITS, 0) is None


def test_an_identity_is_offered_with_every_held_out_file_and_its_cost() -> None:
    table, z = named(BETRAYING["person124_virus_247"], 0, True)
    (finding,) = identity_findings(table, z, LIMITS, 0, ONE_LABEL)
    who = table["path"].str.extract(r"person(\d+)_")[0]
    order = table["split"].map({"train": 0, "val": 1, "test": 2})
    first = order.groupby(who).transform("min")
    assert finding["affected"] == int((order > first).sum())
    assert finding["observed"] == f"{finding['affected']} of {(order > 0).sum()}"
    assert (finding["verdict"], finding["repair"]) == ("warn", [])
    assert "person# in the names" in finding["impact"]
    assert "a probe is right in" in finding["impact"]
    assert "column `group`" in finding["remedy"]


def test_known_groups_and_samples_without_embeddings_are_not_asked() -> None:
    table, z = named(BETRAYING["IM-0115-0001"], 0, True)
    assert list(candidates(table)) == ["im#"]
    assert find_identity(table.assign(group="g"), z, LIMITS, 0) is None
    (finding,) = identity_findings(table, z[:0], LIMITS, 0, ONE_LABEL)
    assert (finding["verdict"], finding["observed"]) == (
        "pass",
        f"0 of {(table['split'] != 'train').sum()}; 0 of 600 compared",
    )


def test_an_identity_is_known_from_the_embedded_part_and_told_of_all() -> None:
    table, z = named(BETRAYING["S07_T2_5"], 0, True)
    every, part = (identity_findings(table, some, LIMITS, 0, ONE_LABEL)[0] for some in (z, z[:300]))
    assert part["affected"] == every["affected"] > 50
    assert part["observed"] == f"{every['observed']}; 300 of 600 compared"


def test_versions_of_one_original_are_found_by_their_names() -> None:
    assert [versions(seed) for seed in SEEDS] == [(True, True)] * 4
