"""Files that are versions of one another by their names: rotations, crops, exports of one original."""

import re
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

PEERS, MORE_ALIKE = 64, 0.75
MANY = 5  # files with marks beside their original, from which on they must look alike too
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
    return name_and_marks(path)[0]


def name_and_marks(path: str) -> tuple[str, str]:
    """Return a file's name without its marks, and which kinds of marks they were, without their numbers."""
    stem = PurePosixPath(path).stem
    name = EXPORT.sub("", stem)
    marks = ["export"] if name != stem else []
    while True:
        shorter = VERSION.sub("", name)
        if shorter == name or not shorter:
            return name, " ".join(sorted(marks))
        marks.append(re.sub(r"[\W\d_]", "", name[len(shorter) :]).casefold())
        name = shorter


def filename_groups(table: pd.DataFrame, z: NDArray[np.float16]) -> "pd.Series[int]":
    """Return a group number per row: versions of one original share it, within a class.

    A name counts only where marks were found: without any, equal names in two folders mean nothing. And a
    word alone is not yet a mark, `person_crop_0001` to `person_crop_0999` are as many persons: there must
    be a file without marks, or marks of several kinds, or copies that an export has numbered by content;
    and the files must look more alike than others of their class do. A few files beside their original need
    not: a crop may look like nothing in it.

    Args:
        table: Columns path and label (samples).
        z: Embeddings of the first rows (audited, features), by which likeness is measured.
    """
    found = pd.DataFrame([name_and_marks(path) for path in table["path"]], columns=["name", "marks"])
    keys = (table["label"].astype(str).reset_index(drop=True) + "/" + found["name"]).to_numpy()
    kinds = found["marks"].groupby(keys).transform("nunique")
    has_marks = (found["marks"] != "").groupby(keys).transform("any")
    exported = found["marks"].str.contains("export").groupby(keys).transform("any")
    related = (has_marks & ((kinds > 1) | exported)).to_numpy()
    has_original = (found["marks"] == "").groupby(keys).transform("any").to_numpy()
    size = pd.Series(keys).groupby(keys).transform("size").to_numpy()
    doubtful = related & (~has_original | (size > MANY))
    related = related & ~np.isin(keys.astype(str), list(unlike_families(table, keys, doubtful, z)))
    alone = np.array([f"{row} alone" for row in range(len(table))], dtype=object)
    return pd.Series(pd.factorize(np.where(related, keys, alone))[0], index=table.index)


def unlike_families(
    table: pd.DataFrame, keys: NDArray[np.object_], doubtful: NDArray[np.bool_], z: NDArray[np.float16]
) -> set[str]:
    """Return the names whose files look no more alike than files of their class do by chance.

    A file's cosine with the first of its name is compared with its cosines with up to PEERS other files of
    the class: the median, over the name's files, of the share that it exceeds must be MORE_ALIKE at least.
    Where most names' files do not look alike, none are versions, whether they have an embedding or not. Else
    files without one, and those in classes without others, are judged by their names alone.
    """
    unit = z.astype(np.float32)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    labels = table["label"].to_numpy()[: len(z)]
    members = pd.DataFrame({"row": np.arange(len(z)), "key": keys[: len(z)]})[doubtful[: len(z)]]
    unlike, judged = set(), set()
    for key, rows in members.groupby("key")["row"]:
        first, *others = rows.to_numpy()
        peers = np.flatnonzero((labels == labels[first]) & (keys[: len(z)] != key))
        peers = peers[:: max(1, len(peers) // PEERS)]  # rows are in the order of their digests: a random part
        if not others or not len(peers):
            continue
        judged.add(str(key))
        near = unit[peers] @ unit[first]
        if np.median([(unit[row] @ unit[first] > near).mean() for row in others]) < MORE_ALIKE:
            unlike.add(str(key))
    if 2 * len(unlike) > len(judged):
        unlike |= set(keys[doubtful].astype(str))  # of two files alone one in four looks alike by chance
    return unlike
