"""Copies at known places: how many are found, and what a picture costs where all are alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steps.core.audit.limits import Limits
from steps.core.data.files import Folder
from steps.core.modalities.image.near_copies import near_copies
from steps.core.modalities.image.scan import LUMINANCE, SIDE, inspect_file
from steps.runtime.scratch import scratch

from .planted_defects import Picture, jpeg, write
from .radiographs import radiograph
from .rows import Row, measured

Kinds = Mapping[str, Callable[[Picture], Picture]]


@dataclass(frozen=True)
class Found:
    """How many copies of one kind were planted and found, and how many innocent pairs were accused."""

    kind: str
    planted: int
    found: int
    wrong: int = 0


def prints_of(folder: Path, paths: list[str]) -> NDArray[np.uint8]:
    """Return the grey fingerprints of files (files, SIDE, SIDE)."""
    source = Folder(str(folder), scratch())
    return np.stack([(inspect_file(source, path, None)[1] @ LUMINANCE).round() for path in paths]).astype(
        np.uint8
    )


def planted_copies(
    folder: Path, shown: list[tuple[str, Picture]], kinds: Kinds, checks: Limits
) -> list[Found]:
    """Save a copy of all pictures but three in each round of kinds, and look for them; at last the sum."""
    names, paths, copied = list(kinds), [], {}
    for number, (_, image) in enumerate(shown):
        paths.append(write(folder, f"p{number:04d}.jpg", jpeg(image)))
        if (turn := number % (len(names) + 3)) < len(names):
            copied[number] = names[turn]
    made = {}
    for number, kind in copied.items():
        changed = kinds[kind](shown[number][1])
        made[frozenset((number, len(paths)))] = kind
        paths.append(write(folder, f"q{number:04d}.jpg", jpeg(changed, 75)))
    prints = prints_of(folder, paths)
    pairs, _ = near_copies(prints, np.arange(len(prints)), checks.near_copy, checks.near_copy_margin)
    accused = {frozenset(pair) for pair in pairs.tolist()}
    rows = [
        Found(kind, len(wanted), len(wanted & accused))
        for kind in names
        if (wanted := {pair for pair, one in made.items() if one == kind})
    ]
    return [*rows, Found("copies in all", len(made), len(accused & set(made)), len(accused - set(made)))]


def alike_figures(work: Path, few: int = 5_000, many: int = 50_000) -> list[Row]:
    """Return the milliseconds that a picture costs: of files with decoding, and of prints alone."""
    folder = work / "radiographs"
    paths = [write(folder, f"{number:05d}.jpg", jpeg(radiograph(number))) for number in range(few)]
    begun = time.perf_counter()
    compare(prints_of(folder, paths))
    each = (time.perf_counter() - begun) / few * 1000
    note = "decoded and compared, one thread"
    rows = [measured("ms_an_image_alike_5k", [each], each, 10, "ms", note, least=False)]
    for count, own, bound in ((few, 1.0, 10), (few, 0.1, 10), (many, 1.0, 12)):
        prints = np.stack([np.asarray(radiograph(number, own, SIDE)) for number in range(count)])
        begun = time.perf_counter()
        compare(prints)
        each = (time.perf_counter() - begun) / count * 1000
        name = f"ms_an_image_alike_{count // 1000}k_own_{own:g}"
        rows.append(measured(name, [each], each, bound, "ms", "prints alone", least=False))
    return rows


def compare(prints: NDArray[np.uint8]) -> int:
    """Look for near copies by the limits of params.yaml; return how many pairs there are."""
    return len(near_copies(prints, np.arange(len(prints)), 0.95, 0.1)[0])
