"""Which file a table means: by its path or name, with or without ending, here or on another machine."""

import math
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from steps.core.data.splits import SPLIT_NAMES
from steps.core.system.errors import DataError

LOOKED_AT = 500  # rows from which the folder of all is told
TRUSTED = 0.9  # of them, whose files one rule must find, for the others' to be missing instead of elsewhere


@dataclass(frozen=True)
class Rule:
    """How a cell becomes a path: `dropped` leading folders are taken off, and `prefix` is put before it."""

    prefix: str
    dropped: int = 0

    def place(self, parts: Sequence[str]) -> str:
        """Return the path of a cell that has these parts."""
        return "/".join([*([self.prefix] if self.prefix else []), *parts[self.dropped :]])


@dataclass(frozen=True)
class Found:
    """What became of a column's cells."""

    paths: list[str | None]
    """Of every row; None where there is no such file."""
    exact: int
    """Rows whose cell has the file's ending."""

    @property
    def share(self) -> float:
        """Of the rows, those whose file is there."""
        return sum(path is not None for path in self.paths) / max(1, len(self.paths))


class Places:
    """The samples below a folder, found by what a table calls them."""

    def __init__(self, paths: Sequence[str], endings: Sequence[str]) -> None:
        """Index all `paths`; those that have one of the `endings` of samples are found without it too."""
        self.endings = tuple(endings)
        self.by_path: dict[str, str] = {}
        self.by_stem: dict[str, list[str]] = defaultdict(list)
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            key = plain(path)
            self.by_path[key] = path
            self.by_stem[self.bare(key)].append(path)
            self.by_name[self.bare(name_of(path))].append(path)

    def bare(self, path: str) -> str:
        """Return a path without the ending of a sample, case, and zeros before a number: 7 is 007.JPG."""
        lower = path.lower()
        stem = os.path.splitext(lower)[0] if lower.endswith(self.endings) else lower
        above, slash, name = stem.rpartition("/")
        return f"{above}{slash}{(name.lstrip('0') or '0') if name.isdecimal() else name}"

    def find(self, cells: Sequence[Any], words: Callable[[int], set[str]], table: str) -> Found:
        """Return the file of every cell.

        Args:
            cells: What the table says, one a row.
            words: What else stands in a row (`word_of`): of several files that in folders called so counts.
            table: The table's name without ending; of several folders that which is called like it counts.

        Raises:
            DataError: A cell may mean several files.
        """
        parts = [split_cell(cell) for cell in cells]
        rule = self.common_rule(parts, words, table)
        paths: list[str | None] = []
        exact = 0
        for row, cell in enumerate(parts):
            path = self.by_rule(rule, cell) if rule else self.by_name_alone(cell, words(row))
            paths.append(path)
            exact += path is not None and cell[-1] == name_of(path)
        return Found(paths, exact)

    def common_rule(
        self, parts: Sequence[Sequence[str]], words: Callable[[int], set[str]], table: str
    ) -> Rule | None:
        """Return the rule by which most cells become paths; None if names alone find more of the files."""
        votes: Counter[Rule] = Counter()
        rows = range(0, len(parts), max(1, len(parts) // LOOKED_AT))
        alone = 0
        for row in rows:
            votes.update({rule_of(parts[row], path) for path in self.candidates(parts[row])})
            alone += len(self.narrowed(parts[row], words(row))) == 1
        most = max(votes.values(), default=0)
        if most == 0 or (alone > most and most < TRUSTED * len(rows)):
            return None
        best = [rule for rule, count in votes.items() if count == most]
        asis = [rule for rule in best if rule == Rule("")]
        named = [rule for rule in best if called_like(rule.prefix, table)]
        return next((choice[0] for choice in (asis, named, best) if len(choice) == 1), None)

    def candidates(self, cell: Sequence[str]) -> list[str]:
        """Return the files that have a cell's name, or if none, those that have it with an ending."""
        if ".." in cell or not cell[-1]:
            return []
        files = self.by_name.get(self.bare(cell[-1]), [])
        return [path for path in files if name_of(path) == cell[-1]] or files

    def by_rule(self, rule: Rule, cell: Sequence[str]) -> str | None:
        """Return the file of a cell.

        Raises:
            DataError: There are two, with different endings.
        """
        place = rule.place(cell)
        if place in self.by_path:
            return self.by_path[place]
        files = self.by_stem.get(self.bare(place), [])
        if len(files) > 1:
            raise DataError(f"{'/'.join(cell)} may be any of {sorted(files)}: write the ending")
        return files[0] if files else None

    def by_name_alone(self, cell: Sequence[str], words: set[str]) -> str | None:
        """Return the only file of that name, or of several the only one in folders that the row names.

        Raises:
            DataError: There are several.
        """
        files = self.narrowed(cell, words)
        if len(files) > 1:
            raise DataError(
                f"{'/'.join(cell)} may be any of {sorted(files)[:3]}: write the folder before it, or "
                "call the table like its folder"
            )
        return files[0] if files else None

    def narrowed(self, cell: Sequence[str], words: set[str]) -> list[str]:
        """Return the files whose path ends as a cell says; of several those in folders that the row names."""
        files = [path for path in self.candidates(cell) if rule_of(cell, path).dropped == 0]
        if len(files) < 2:
            return files
        scores = [sum(word_of(part) in words for part in plain(path).split("/")[:-1]) for path in files]
        return [path for path, score in zip(files, scores, strict=True) if score == max(scores)]


def word_of(cell: Any) -> str:
    """Return a cell or a folder's name so that equal ones are equal, as `Valid` and `val`."""
    word = plain(str(cell)).strip().lower()
    return SPLIT_NAMES.get(word, word)


def name_of(path: str) -> str:
    """Return a file's name."""
    return plain(path).rpartition("/")[2]


def plain(path: str) -> str:
    """Return a path in Unicode's composed form: macOS spells the accents of file names apart."""
    return unicodedata.normalize("NFC", path)


def split_cell(cell: Any) -> list[str]:
    """Return the parts of a path as a table has it, whichever system wrote it."""
    missing = cell is None or (isinstance(cell, float) and math.isnan(cell))
    text = "" if missing else plain(str(cell)).strip().replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return parts or [""]


def rule_of(cell: Sequence[str], path: str) -> Rule:
    """Return the rule by which a cell becomes a path of the same name: as few folders dropped as possible."""
    folders, above = plain(path).split("/")[:-1], list(cell[:-1])
    same = 0
    while same < min(len(above), len(folders)) and above[-1 - same] == folders[-1 - same]:
        same += 1
    return Rule("/".join(folders[: len(folders) - same]), len(above) - same)


def called_like(prefix: str, table: str) -> bool:
    """Say whether a folder is called like a table: `train.csv` and `train`, or `train_images`."""
    return any(part.lower().startswith(table.lower()) for part in prefix.split("/") if part and table)
