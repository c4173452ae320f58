"""Train, validation and test: what they are called, and which sample belongs to which."""

import hashlib

import pandas as pd

from steps.core.system.errors import DataError

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def assign_splits(table: pd.DataFrame, fractions: dict[str, float], seed: int) -> list[str]:
    """Return a split per row; rows that have one keep it.

    A row's place is a hash of the seed and its group (or, without one, of its content), so adding
    files never moves old ones, copies of one sample stay together, and groups are never divided.
    Where some rows of a group (or copies of one sample) bring val or test along, the others that bring
    nothing follow them, to the later one if the data set itself divides the group.
    Nothing else is added to splits that the data set brings along; a missing one is carved out of train.
    """
    given = set(table["split"].dropna())
    if given and "train" not in given and table["split"].notna().all():
        raise DataError(f"the data set has splits {sorted(given)} but no train: name one of them so")
    open_splits = [s for s in SPLITS if s == "train" or s not in given]
    total = sum(fractions[s] for s in open_splits)

    def place(key: str) -> str:
        digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64 * total
        for split in reversed(open_splits):  # test first: its members depend on its own share only
            position -= fractions[split]
            if position < 0:
                return split
        return "train"

    has_group = table["group"].notna()
    keys = table["group"].where(has_group, table["sha256"]).map(str)
    keys = has_group.map({True: "group ", False: "content "}) + keys  # a group may be called like a digest
    held_out = table["split"].isin(set(SPLITS) - {"train"})
    ranks = table["split"][held_out].map(SPLITS.index).groupby(keys[held_out].to_numpy()).max()
    followed = {key: SPLITS[rank] for key, rank in ranks.items()}
    given_splits = table["split"].where(held_out, keys.map(followed).where(table["split"].isna()))
    return [
        split if isinstance(split, str) else place(key.partition(" ")[2])
        for split, key in zip(given_splits, keys, strict=True)
    ]
