"""Which flips training may use follows from what a probe knows of mirrored samples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from steps.core.data.files import Folder
from steps.core.features.embedding import embed
from steps.core.features.symmetries import try_symmetries
from steps.core.modalities.image.pretrained import automatic_side
from steps.core.system.storage import file_sha256
from tests.core.toys import IMAGE, image_encoder, image_settings

FLIPS = ["horizontal_flip", "vertical_flip"]


def draw(folder: Path, painter: Callable[[np.random.Generator, int], Any], count: int = 60) -> pd.DataFrame:
    """Write images of two classes, as `painter` draws them (side, side), and return their table."""
    rows = []
    for number in range(count):
        label = number % 2
        path = folder / f"{number}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        pixels = painter(np.random.default_rng(number), label) + np.random.default_rng(number).normal(0, 8)
        Image.fromarray(np.uint8(np.clip(pixels, 0, 255))).convert("RGB").save(path)
        rows.append((path.name, "ab"[label], "train", file_sha256(path)))
    return pd.DataFrame(rows, columns=["path", "label", "split", "sha256"])


def wedge(generator: np.random.Generator, label: int) -> Any:
    """Draw brightness that rises to the left in one class, to the right in the other."""
    ramp = np.tile(np.linspace(0, 255, 32), (32, 1)) * generator.uniform(0.6, 1)
    return ramp[:, ::-1] if label else ramp


def colour_of_noise(generator: np.random.Generator, label: int) -> Any:
    """Draw noise that is bright in one class and dark in the other."""
    return generator.integers(0, 100, (32, 32)) + 120 * label


@pytest.mark.parametrize(("painter", "kept"), [(wedge, [False, True]), (colour_of_noise, [True, True])])
def test_a_flip_is_kept_unless_it_makes_another_class(
    painter: Callable[..., Any], kept: list[bool], weights_of: Callable[[str], Path], tmp_path: Path
) -> None:
    table = draw(tmp_path / "images", painter)
    encoder = image_encoder("test_efficientnet", weights_of("test_efficientnet"))
    source = Folder(str(tmp_path / "images"), tmp_path / "scratch")
    plain = embed(source, table, encoder, tmp_path / "scratch").astype(np.float64)
    found = try_symmetries(FLIPS, plain, table, source, encoder, 60, 0.05, 200, 0, tmp_path / "scratch")
    assert {name: row["kept"] for name, row in found.items()} == dict(zip(FLIPS, kept, strict=True))
    again = try_symmetries(FLIPS, plain, table, source, encoder, 60, 0.05, 200, 0, tmp_path / "other")
    assert again == found


def test_too_few_samples_keep_no_flip(weights_of: Callable[[str], Path], tmp_path: Path) -> None:
    table = draw(tmp_path / "images", colour_of_noise, 8)
    encoder = image_encoder("test_efficientnet", weights_of("test_efficientnet"))
    source = Folder(str(tmp_path / "images"), tmp_path / "scratch")
    plain = embed(source, table, encoder, tmp_path / "scratch").astype(np.float64)
    found = try_symmetries(FLIPS, plain, table, source, encoder, 60, 0.05, 200, 0, tmp_path / "scratch")
    assert found == {name: {"kept": False, "samples": 8} for name in FLIPS}


def test_only_what_is_automatic_is_decided() -> None:
    given = image_settings().augmentation.model_dump()
    settings = image_settings(augmentation={**given, "horizontal_flip": "auto", "vertical_flip": 0.25})
    assert IMAGE.undecided(settings) == ["horizontal_flip"]
    decided = IMAGE.decided(settings, {"horizontal_flip": True}).augmentation
    assert (decided.horizontal_flip, decided.vertical_flip) == (0.5, 0.25)
    assert IMAGE.decided(settings, {"horizontal_flip": False}).augmentation.horizontal_flip == 0


@pytest.mark.parametrize(
    ("sides", "side"), [([8], 96), ([64], 128), ([70, 80, 4000], 160), ([500], 160), ([], 160), ([47], 96)]
)
def test_the_automatic_size_is_twice_the_median_within_its_limits(sides: list[int], side: int) -> None:
    assert automatic_side(sides, 224, 160) == side
    assert automatic_side(sides, 64, 160) == 64


def test_the_size_follows_from_the_images_that_have_one() -> None:
    table = pd.DataFrame({"width": [70, 100, 0], "height": [64, 200, 0]})
    settings = image_settings(size="auto", max_auto_size=160)
    assert IMAGE.pretrained("tf_efficientnet_lite0", settings, table, Path()).side == 160
    assert IMAGE.pretrained("tf_efficientnet_lite0", settings, table.head(1), Path()).side == 128
    assert IMAGE.pretrained("tf_efficientnet_lite0", image_settings(size=None), table, Path()).side == 224
