"""Copies are found among photographs and among pictures that are all alike, at the same cost."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from steps.core.modalities.image import near_copies as module
from steps.core.modalities.image.alignment import align, identity, inverse, moved
from steps.core.modalities.image.near_copies import NEIGHBOURS, near_copies
from steps.core.modalities.image.scan import SIDE
from tests.bench.audit_detectors import limits
from tests.bench.copies import described, planted_copies
from tests.bench.planted_defects import HARDER, NEAR, jpeg, pictures, write
from tests.bench.radiographs import radiograph

LIMITS = (0.95, 0.1)  # as params.yaml has them
PHOTOGRAPHS = pictures(96, first=500)


def radiographs(count: int, own: float = 1.0) -> np.ndarray:  # type: ignore[type-arg]
    return np.stack([np.asarray(radiograph(number, own, SIDE)) for number in range(count)])


@pytest.mark.parametrize("alike", [False, True])
def test_copies_are_found_whatever_was_done_to_them(tmp_path: Path, alike: bool) -> None:
    shown = [("view", radiograph(number)) for number in range(96)] if alike else PHOTOGRAPHS
    *kinds, every = planted_copies(tmp_path, shown, NEAR, limits())
    assert {row.kind for row in kinds} == set(NEAR)
    assert all(row.planted >= 7 for row in kinds)
    assert every.found >= 0.95 * every.planted
    assert every.wrong <= 1


def test_a_larger_crop_and_a_small_rotation_are_found_too(tmp_path: Path) -> None:
    found = {row.kind: row for row in planted_copies(tmp_path, PHOTOGRAPHS, HARDER, limits())}
    for kind, least in (("10 % crop", 1.0), ("20 % crop", 0.5), ("2 degrees", 0.3)):
        assert found[kind].found >= least * found[kind].planted, kind
    assert found["copies in all"].wrong == 0


@pytest.mark.parametrize("own", [1.0, 0.3, 0.03])
def test_the_work_is_bounded_however_alike_the_pictures_are(
    own: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    aligned = {"coarsely": 0, "finely": 0}

    def counted(name: str, place: str, argument: int) -> None:
        before = getattr(module, name)

        def after(*given: torch.Tensor) -> torch.Tensor:
            aligned[place] += len(given[argument])
            result: torch.Tensor = before(*given)
            return result

        monkeypatch.setattr(module, name, after)

    counted("similarities", "coarsely", 1)
    counted("detail_similarity", "finely", 0)
    pairs, _ = near_copies(radiographs(300, own), np.arange(300), *LIMITS)
    assert len(pairs) == 0
    assert 0 < aligned["finely"] <= aligned["coarsely"] <= NEIGHBOURS * 300


def test_eights_that_look_alike_are_no_copies() -> None:
    draw = np.random.default_rng(0)
    rough = draw.uniform(0.7, 1.0, (3, 8, 8)) * (draw.random((3, 8, 8)) < 0.5)
    small = rough[np.arange(150) % 3] + draw.normal(scale=0.12, size=(150, 8, 8))
    shown = [Image.fromarray(np.uint8(255 * np.clip(one, 0, 1))).resize((SIDE, SIDE)) for one in small]
    prints = np.stack([np.asarray(one) for one in shown])
    pairs, _ = near_copies(prints, np.arange(150), 0.9, 0.1)
    assert len(pairs) == 0
    again = np.concatenate([prints, np.uint8(0.9 * prints[:5])])
    pairs, similarity = near_copies(again, np.arange(155), 0.9, 0.1)
    assert pairs.tolist() == [[n, 150 + n] for n in range(5)]
    assert similarity.min() > 0.99


def test_many_versions_of_one_picture_are_each_other_s_copies(tmp_path: Path) -> None:
    versions = [jpeg(PHOTOGRAPHS[0][1], quality) for quality in range(60, 80)]
    others = [jpeg(image) for _, image in PHOTOGRAPHS[1:41]]
    paths = [write(tmp_path, f"{n:02d}.jpg", data) for n, data in enumerate([*versions, *others])]
    pairs, _ = near_copies(described(tmp_path, paths).prints, np.arange(60), *LIMITS)
    assert len(pairs) == 20 * 19 / 2, "more than the neighbours that are looked at first"
    assert pairs.max() < 20


def test_only_the_rows_that_are_asked_for_are_compared() -> None:
    prints = radiographs(40)
    prints[31] = prints[30] = prints[3]
    rows = np.delete(np.arange(40), 30)
    assert near_copies(prints, rows, *LIMITS)[0].tolist() == [[3, 31]]
    assert near_copies(prints, rows[:1], *LIMITS)[0].shape == (0, 2)


def test_an_alignment_is_found_again() -> None:
    draw = torch.Generator().manual_seed(0)
    small = torch.randn(4, 1, 6, 6, generator=draw)
    whole = torch.nn.functional.interpolate(small, size=(24, 24), mode="bicubic")[:, 0]
    wanted = torch.tensor([[[0.95, 0.02, 0.03], [-0.02, 0.93, -0.04]]]).expand(4, 2, 3)
    part = moved(whole[:, None], wanted)[:, 0]
    found = align(whole, part, identity(4), 12)
    assert (found - wanted).abs().max() < 0.01
    both = inverse(found)[:, :, :2] @ found[:, :, :2]
    assert torch.allclose(both, torch.eye(2).expand(4, 2, 2), atol=1e-5)
