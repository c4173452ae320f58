"""Files that are versions of one another by their names: rotations, crops, exports of one original."""

import re
from pathlib import PurePosixPath

import pandas as pd

EXPORT = re.compile(r"[._-](?:jpe?g|png|bmp|tiff?|webp)\.rf\.[0-9a-f]{8,}$", re.I)
WORDS = (
    "aug(?:mented|mentation)?|rot(?:at(?:ed|ion|e))?|[hv]?flip(?:ped)?|mirror(?:ed)?|crop(?:ped)?|zoom(?:ed)?|"
    "shift(?:ed)?|shear(?:ed)?|scaled?|resized?|bright(?:er|ness)?|dark(?:er)?|contrast|blur(?:red)?|nois[ey]|"
    "gauss(?:ian)?|sharp(?:en(?:ed)?)?|hue|sat(?:uration)?|jitter(?:ed)?|cutout|distort(?:ed)?|copy"
)
VERSION = re.compile(
    rf"[\s._-]*(?<![a-z])(?:{WORDS})[\s._-]*(?:[lr]|left|right|up|down)?[\s._-]*-?\d*(?:deg)?$", re.I
)


def original_name(path: str) -> str:
    """Return what a file's name comes from once every mark of augmentation at its end is taken off.

    A bare number is no such mark: most data sets number their originals. So is a number in brackets
    where nothing else says that the file is a copy, since cameras and scripts count like that too.
    """
    name = EXPORT.sub("", PurePosixPath(path).stem)
    while True:
        shorter = VERSION.sub("", name)
        if shorter == name or not shorter:
            return name
        name = shorter


def filename_groups(table: pd.DataFrame) -> "pd.Series[int]":
    """Return a group number per row: versions of one original share it, within a class.

    A name counts only where marks were found: without any, equal names in two folders mean nothing.
    """
    names = table["path"].map(original_name)
    marked = names != table["path"].map(lambda path: PurePosixPath(path).stem)
    keys = table["label"].astype(str) + "/" + names
    known = set(keys[marked])
    alone = pd.Series([f"{i} alone" for i in range(len(table))], index=table.index)
    return pd.Series(keys.where(keys.isin(known), alone).factorize()[0], index=table.index)
