"""Copies at known places: how many are found, and what a picture costs where all are alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.core.audit.limits import Limits
from steps.core.data.files import Folder
from steps.core.modalities.image.near_copies import near_copies
from steps.core.modalities.image.scan import SIDE, FileScan, scan_files
from steps.core.modalities.image.variants import variants
from steps.runtime.scratch import scratch

from .planted_defects import NEAR, Picture, jpeg, pictures, write
from .radiographs import radiograph
from .rows import Row, measured
from .variants import COLOURS, form, product

Kinds = Mapping[str, Callable[[Picture], Picture]]


@dataclass(frozen=True)
class Found:
    """How many copies of one kind were planted and found, and how many innocent pairs were accused."""

    kind: str
    planted: int
    found: int
    wrong: int = 0


def described(folder: Path, paths: list[str]) -> FileScan:
    """Return what a look at files finds."""
    return scan_files(
        Folder(str(folder), scratch()), pd.DataFrame({"path": paths, "error": None}), len(paths)
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
    prints = described(folder, paths).prints
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
    compare(described(folder, paths).prints)
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


def variant_rows(work: Path, checks: Limits) -> list[Found]:
    """Ask which of near copies are variants: of products and of forms all are, of planted copies none."""
    products = [product(number, colour) for number in range(80) for colour in COLOURS]
    forms = [form(number, tick) for number in range(40) for tick in (0, 3)]
    photographs = [image for _, image in pictures(90, first=500)]
    kinds = list(NEAR.values())
    changed = [kinds[number % len(kinds)](image) for number, image in enumerate(photographs)]
    rows = []
    for kind, shown in (
        ("colours of a product", products),
        ("filled-in forms", forms),
        ("copies", photographs + changed),
    ):
        paths = [write(work / kind, f"{number:03d}.jpg", jpeg(one)) for number, one in enumerate(shown)]
        seen = described(work / kind, paths)
        if kind == "filled-in forms":  # all sheets are alike: a set of nothing else has no near copies
            pairs = np.array([[number, number + 1] for number in range(0, len(shown), 2)])
        else:
            rows_of = np.arange(len(shown))
            pairs, _ = near_copies(seen.prints, rows_of, checks.near_copy, checks.near_copy_margin)
        accused = ~variants(seen.prints, seen.colours, pairs)
        rows.append(Found(f"accused under two labels: {kind}", len(pairs), int(accused.sum())))
    return rows
