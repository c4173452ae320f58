"""Every class with enough samples is in every split, and what is added moves nothing that was learnt from."""

from collections import Counter
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.core.data.splits import KEPT, SPLITS, assign_splits, cover_classes
from tests.core.data.test_layouts import FRACTIONS, samples

SHARES = {"train": 0.55, "val": 0.15, "test": 0.30}


def covered(
    rows: list[tuple[str, str, Any, Any]], seed: int = 0, shares: dict[str, float] = SHARES
) -> list[str]:
    """Split rows of (content, label, group, split); a label may be several, divided by |."""
    table = samples([(content, group, split) for content, _, group, split in rows])
    members = pd.Series([label for _, label, _, _ in rows]).str.split("|").explode()
    return cover_classes(table, assign_splits(table, shares, seed), members, shares, seed)


def counts(rows: list[tuple[str, str, Any, Any]], found: list[str]) -> Counter[tuple[str, str]]:
    return Counter((label, split) for (_, label, _, _), split in zip(rows, found, strict=True))


@given(st.integers(0, 9999), st.integers(KEPT + 2, 12))
def test_a_class_of_four_or_more_is_in_every_split_and_keeps_two_to_train_on(seed: int, size: int) -> None:
    rows = [(f"{label}{n}", label, None, None) for label in "abcd" for n in range(size)]
    table = samples([(content, None, None) for content, _, _, _ in rows])
    chance = counts(rows, assign_splits(table, SHARES, seed))
    found = counts(rows, covered(rows, seed))
    for label in "abcd":
        if chance[label, "train"] < KEPT + sum(not chance[label, split] for split in ("val", "test")):
            continue  # chance left too few to lend any
        assert all(found[label, split] for split in SPLITS)
        assert found[label, "train"] >= KEPT


def test_chance_alone_would_leave_classes_of_ten_without_validation() -> None:
    rows = [(f"{label}-{n}", str(label), None, None) for label in range(100) for n in range(10)]
    table = samples([(content, None, None) for content, _, _, _ in rows])
    chance, found = counts(rows, assign_splits(table, SHARES, 0)), counts(rows, covered(rows))
    missing = [sum(not one[str(label), "val"] for label in range(100)) for one in (chance, found)]
    assert 10 < missing[0] < 32, "0.85 to the tenth is 0.20"
    assert missing[1] == 0


def test_three_samples_give_one_to_the_test_and_two_none() -> None:
    for seed in range(50):
        for size in (1, 2, 3):
            rows = [(f"x{n}", "a", None, None) for n in range(size)]
            table = samples([(content, None, None) for content, _, _, _ in rows])
            chance = assign_splits(table, SHARES, seed)
            found = covered(rows, seed)
            if chance == ["train"] * size:
                assert sorted(found) == (["test", "train", "train"] if size == 3 else chance)


ROWS = st.lists(st.tuples(st.text("abcdefgh", min_size=1, max_size=3), st.sampled_from("xyz")), max_size=40)


@settings(max_examples=200)
@given(ROWS, ROWS, st.integers(0, 99))
def test_what_is_added_moves_an_old_sample_at_most_out_of_a_split_that_it_was_lent_to(
    old: list[tuple[str, str]], new: list[tuple[str, str]], seed: int
) -> None:
    first = {content: (content, label, None, None) for content, label in old}
    both = {**first, **{c: (c, label, None, None) for c, label in new if c not in first}}
    before = dict(zip(first, covered(list(first.values()), seed, FRACTIONS), strict=True))
    after = dict(zip(both, covered(list(both.values()), seed, FRACTIONS), strict=True))
    bare = samples([(content, None, None) for content in both]) if both else pd.DataFrame()
    by_hash = dict(zip(both, assign_splits(bare, FRACTIONS, seed), strict=True)) if both else {}
    for content in first:
        if after[content] != before[content]:
            assert by_hash[content] == "train", "only what its hash has in train is ever lent"
            label = first[content][1]
            trained = sum(before[one] == "train" for one, row in first.items() if row[1] == label)
            assert after[content] == "train" or trained <= KEPT, "or its class had too few to lend any"


def test_groups_are_lent_whole_and_other_classes_of_theirs_keep_enough() -> None:
    rows = [(f"{label}{n}", label, f"g{label}{n // 3}", None) for label in "ab" for n in range(18)]
    for seed in range(30):
        found = covered(rows, seed)
        of_group: dict[Any, set[str]] = {}
        for (_, _, group, _), split in zip(rows, found, strict=True):
            of_group.setdefault(group, set()).add(split)
        assert all(len(one) == 1 for one in of_group.values())
        assert all(counts(rows, found)[label, "train"] for label in "ab")
    labels = ["a|b", "a", "a", "a", "b"]
    shared = [(str(number), label, None, None) for number, label in enumerate(labels)]
    for seed in range(200):
        bare = samples([(content, None, None) for content, _, _, _ in shared])
        if set(assign_splits(bare, SHARES, seed)) == {"train"}:
            assert covered(shared, seed)[0] == "train", "b has but two to train on"


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_that_the_data_set_brings_gets_nothing(split: str) -> None:
    rows = [(f"a{n}", "a", None, "train") for n in range(8)] + [(f"b{n}", "b", None, split) for n in range(8)]
    for seed in range(30):
        assert covered(rows, seed)[8:] == [split] * 8
        assert split not in covered(rows, seed)[:8]


def test_a_split_without_a_share_gets_nothing() -> None:
    rows = [(f"a{n}", "a", None, None) for n in range(8)]
    assert set(covered(rows, 0, {"train": 0.7, "val": 0.0, "test": 0.3})) <= {"train", "test"}
