"""Colour variants and filled-in forms are no picture under two labels; a copy under another label is one."""

from pathlib import Path

import numpy as np
import pytest

from steps.core.audit.audit import ReadableSamples, audit
from steps.core.modalities.image.near_copies import near_copies
from steps.core.modalities.image.scan import FileScan
from steps.core.modalities.image.variants import variants
from tests.bench.audit_detectors import limits
from tests.bench.copies import described
from tests.bench.planted_defects import NEAR, Picture, jpeg, pictures, write
from tests.bench.radiographs import radiograph
from tests.bench.variants import COLOURS, form, product
from tests.core.audit.test_audit import manifest
from tests.core.toys import IMAGE, image_settings

LIMITS = (0.95, 0.1)  # as params.yaml has them


def scanned(folder: Path, shown: list[Picture]) -> FileScan:
    paths = [write(folder, f"{n:03d}.jpg", jpeg(image)) for n, image in enumerate(shown)]
    return described(folder, paths)


def test_eighty_products_in_three_colours_are_not_accused_and_all_stay(tmp_path: Path) -> None:
    names = [(number, colour) for number in range(80) for colour in COLOURS]
    paths = [write(tmp_path, f"{c}/{n:02d}.jpg", jpeg(product(n, c))) for n, c in names]
    seen = described(tmp_path, paths)
    pairs, _ = near_copies(seen.prints, np.arange(240), *LIMITS)
    assert len(pairs) >= 200, "in grey they are copies"
    table = manifest(
        [(path, path.split("/")[0], "train" if n % 3 else "test") for n, path in enumerate(paths)]
    )
    table = table.assign(bytes=1, width=9, height=9, format="JPEG", mode="RGB")
    z = np.random.default_rng(0).normal(size=(240, 8)).astype(np.float16)
    found = audit(table, ReadableSamples(IMAGE, image_settings(), seen, z), limits(permutations=19), 0)
    named = {finding["check"]: finding for finding in found.findings}
    contradiction = named["no near copy has another label"]
    assert contradiction["verdict"] == "pass"
    assert contradiction["observed"] == f"0 of 240; {len(pairs)} pairs of variants are not accused"
    assert len(found.repaired) == 240


def test_a_form_with_another_tick_is_not_the_same_picture(tmp_path: Path) -> None:
    shown = [form(k, tick) for k in range(20) for tick in (0, 3)]
    other = [image for _, image in pictures(40, first=500)]  # among which two forms are alike
    seen = scanned(tmp_path, [*shown, *other])
    pairs = np.array([[2 * k, 2 * k + 1] for k in range(20)])
    assert variants(seen.prints, seen.colours, pairs).all()


@pytest.mark.parametrize("what", ["photograph", "radiograph", "product", "form"])
def test_a_copy_is_no_variant_of_its_original(tmp_path: Path, what: str) -> None:
    drawn = {
        "photograph": lambda n: pictures(1, first=500 + n)[0][1],
        "radiograph": radiograph,
        "product": lambda n: product(n, "red"),
        "form": lambda n: form(n, n % 6),
    }[what]
    shown = [drawn(n) for n in range(18)]
    kinds = list(NEAR.values()) if what != "form" else [NEAR["JPEG 60"], NEAR["JPEG 95"], NEAR["90 % size"]]
    changed = [kinds[n % len(kinds)](image) for n, image in enumerate(shown)]
    seen = scanned(tmp_path, [*shown, *changed])
    pairs = np.column_stack([np.arange(18), 18 + np.arange(18)])
    assert variants(seen.prints, seen.colours, pairs).sum() == 0


def test_no_pairs_are_no_variants() -> None:
    none = np.zeros((0, 2), np.int64)
    assert variants(np.zeros((3, 48, 48), np.uint8), np.zeros((3, 2, 8, 8), np.int8), none).shape == (0,)
