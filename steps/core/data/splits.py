"""Train, validation and test: what they are called, and which sample belongs to which."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import product

import pandas as pd

from steps.core.system.errors import DataError

SPLITS = ("train", "val", "test")
HELD_OUT = ("val", "test")
KEPT = 2  # samples of a class that stay in train when others are lent to val and test
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def assign_splits(table: pd.DataFrame, fractions: Mapping[str, float], seed: int) -> list[str]:
    """Return a split per row; rows that have one keep it.

    A row's place is a hash of the seed and its group (or, without one, of its content), so adding
    files never moves old ones, copies of one sample stay together, and groups are never divided.
    Where some rows of a group (or copies of one sample) bring val or test along, the others that bring
    nothing follow them, to the later one if the data set itself divides the group.
    Nothing else is added to splits that the data set brings along; a missing one is carved out of train.
    """
    open_splits, total = carved_splits(table, fractions)

    def place(key: str) -> str:
        at = position(seed, key) * total
        for split in reversed(open_splits):  # test first: its members depend on its own share only
            at -= fractions[split]
            if at < 0:
                return split
        return "train"

    keys = split_keys(table)
    held_out = table["split"].isin(HELD_OUT)
    ranks = table["split"][held_out].map(SPLITS.index).groupby(keys[held_out].to_numpy()).max()
    followed = {key: SPLITS[rank] for key, rank in ranks.items()}
    given_splits = table["split"].where(held_out, keys.map(followed).where(table["split"].isna()))
    return [
        split if isinstance(split, str) else place(key) for split, key in zip(given_splits, keys, strict=True)
    ]


def carved_splits(table: pd.DataFrame, fractions: Mapping[str, float]) -> tuple[list[str], float]:
    """Return the splits that rows without one are divided among, and the sum of their shares.

    Raises:
        DataError: All rows have a split, and none is train.
    """
    given = set(table["split"].dropna())
    if given and "train" not in given and table["split"].notna().all():
        raise DataError(f"the data set has splits {sorted(given)} but no train: name one of them so")
    carved = [split for split in SPLITS if split == "train" or split not in given]
    return carved, sum(fractions[split] for split in carved)


def split_keys(table: pd.DataFrame) -> "pd.Series[str]":
    """Return what is never divided, a text per row: its group, or without one its content."""
    has_group = table["group"].notna()
    keys = table["group"].where(has_group, table["sha256"]).map(str)
    return has_group.map({True: "group ", False: "content "}) + keys  # a group may be called like a digest


def position(seed: int, key: str) -> float:
    """Return the place of a key among all, 0 to 1, which nothing else has a part in."""
    digest = hashlib.sha256(f"{seed}/{key.partition(' ')[2]}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def cover_classes(
    table: pd.DataFrame,
    splits: Sequence[str],
    members: "pd.Series[str]",
    fractions: Mapping[str, float],
    seed: int,
) -> list[str]:
    """Return the splits after every class that has enough in train has lent some to a split without any.

    Chance alone leaves a class of ten without validation in one of five cases. The group or content with
    the least hash of the class goes to test, that with the greatest to validation, and KEPT stay in train.
    When files are added, a lent sample goes back once others of its class are there by their own hash, and a
    class that had too few to lend any lends one; nothing else ever moves. (If nothing at
    all may move, a split depends on the sample alone, and chance leaves classes out.) What the data set
    itself assigns to a split stays as it is.

    Args:
        table: See `assign_splits`.
        splits: What that returned.
        members: A label per row; a row with several comes as often, under its number in the table.
        fractions: As for `assign_splits`.
        seed: As for `assign_splits`.
    """
    carved, _ = carved_splits(table, fractions)
    keys = split_keys(table)
    found = pd.Series(list(splits), index=table.index, dtype=object)
    fixed = set(keys[table["split"].isin(HELD_OUT)])
    rows_of = members.groupby(members.to_numpy()).groups
    for label, split in product(sorted(map(str, rows_of)), HELD_OUT[::-1]):
        rows = rows_of[label]
        if split not in carved or not fractions[split] or (found[rows] == split).any():
            continue
        able = sorted(set(keys[rows][found[rows] == "train"]) - fixed, key=lambda key: position(seed, key))
        for key in able if split == "test" else able[::-1]:
            moved = found.mask(keys == key, split)
            touched = members[members.index.isin(keys.index[keys == key])].unique()
            if all(keys[rows_of[one]][moved[rows_of[one]] == "train"].nunique() >= KEPT for one in touched):
                found = moved
                break
    return list(found)
