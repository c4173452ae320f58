from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import create_transform, resolve_data_config

from steps.core.data.files import Folder
from steps.core.modalities.image.moments import SMALLEST_STD, Moments, stream_moments
from steps.core.modalities.image.pixels import deterministic_view, normalise, read_image
from steps.core.modalities.image.pretrained import pretrained_preprocessing
from steps.core.system.errors import BackboneError, DataError
from tests.core.toys import PREPROCESSING, Pictures, encode, picture


def reference(pictures: Pictures) -> NDArray[np.float64]:
    """Every pixel of every plain view, (3, pixels), scaled to 0..1."""
    views = [
        deterministic_view(read_image(pictures.folder().read(p)), PREPROCESSING)
        for p in pictures.table["path"]
    ]
    pixels = np.stack([view.numpy() for view in views]).astype(np.float64) / 255
    return pixels.transpose(1, 0, 2, 3).reshape(3, -1)


def test_the_streamed_moments_are_those_of_two_passes_in_double_precision(pictures: Pictures) -> None:
    assert len({read_image(pictures.folder().read(p)).shape for p in pictures.table["path"]}) > 5
    found = stream_moments(pictures.folder(), list(pictures.table["path"]), PREPROCESSING)
    pixels = reference(pictures)
    assert found.count == pixels.shape[1]
    np.testing.assert_allclose(found.mean(), pixels.mean(axis=1), atol=1e-13, rtol=0)
    np.testing.assert_allclose(found.std(), pixels.std(axis=1), atol=1e-13, rtol=0)


def test_the_order_of_the_files_changes_not_a_bit(pictures: Pictures) -> None:
    paths = list(pictures.table["path"])
    assert stream_moments(pictures.folder(), paths, PREPROCESSING) == stream_moments(
        pictures.folder(), paths[::-1], PREPROCESSING
    )


def test_the_moments_of_a_million_images_would_still_be_exact() -> None:
    pixels = 10**6 * 224**2
    found = Moments([pixels * 200 + 1] * 3, [pixels * 200**2 + 401] * 3, pixels)  # one pixel is 201
    assert found.mean()[0] == pytest.approx((200 + 1 / pixels) / 255, abs=1e-15)
    narrow = Moments([251 * pixels], [(250**2 + 252**2) * pixels // 2], pixels)  # half 250, half 252
    assert narrow.std() == [1 / 255]
    narrow = Moments([250 * pixels], [(248**2 + 252**2) * pixels // 2], pixels)
    assert narrow.std() == [2 / 255]


def test_a_channel_without_contrast_gets_a_std_that_can_be_divided_by(tmp_path: Path) -> None:
    (tmp_path / "grey.png").write_bytes(encode(np.full((40, 40, 3), 77, dtype=np.uint8)))
    found = stream_moments(Folder(str(tmp_path), tmp_path), ["grey.png"], PREPROCESSING)
    assert found.mean() == pytest.approx([77 / 255] * 3, abs=1e-15)
    assert found.std() == [SMALLEST_STD] * 3


def test_a_broken_file_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError):
        stream_moments(Folder(str(tmp_path), tmp_path), ["broken.png"], PREPROCESSING)


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "resnet50", "vit_base_patch16_224", "test_resnet", "efficientnet_b0"]
)
def test_a_backbone_is_shown_images_as_in_its_pretraining(name: str) -> None:
    own = timm.get_pretrained_cfg(name)
    preprocessing = pretrained_preprocessing(name, None)
    assert preprocessing.side == own.input_size[-1]
    assert preprocessing.resize == int(preprocessing.side / own.crop_pct)
    assert (preprocessing.interpolation, preprocessing.mean, preprocessing.std) == (
        own.interpolation,
        own.mean,
        own.std,
    )


def test_not_every_backbone_resizes_to_the_same_fraction() -> None:
    resizes = {n: pretrained_preprocessing(n, None).resize for n in ("resnet50", "efficientnet_b0")}
    assert resizes == {"resnet50": 235, "efficientnet_b0": 256}


@pytest.mark.parametrize("size", [32, 96, 300])
def test_another_image_size_keeps_the_ratio_of_resize_to_crop(size: int) -> None:
    preprocessing = pretrained_preprocessing("efficientnet_b0", size)
    assert preprocessing.side == size
    assert preprocessing.resize == pytest.approx(size / 0.875, abs=1)


@pytest.mark.parametrize("name", ["efficientnet_b0", "test_resnet", "vit_tiny_patch16_224"])
def test_the_input_is_that_of_timm_s_own_transform(name: str) -> None:
    pixels = picture(1, 300, 260)
    settings = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    wanted = create_transform(**settings)(Image.fromarray(pixels))
    preprocessing = pretrained_preprocessing(name, None)
    found = normalise(deterministic_view(read_image(encode(pixels)), preprocessing)[None], preprocessing)[0]
    level = 1 / 255 / min(preprocessing.std)  # one step of an 8-bit value
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 2 * level
    assert (found - wanted).abs().mean() <= 0.2 * level


SQUASH = "coatnet_rmlp_2_rw_384"


def test_a_backbone_that_was_pretrained_on_squashed_images_is_shown_squashed_ones() -> None:
    settings = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(SQUASH).to_dict())
    assert settings["crop_mode"] == "squash"
    pixels = picture(1, 150, 300)
    wanted = create_transform(**settings)(Image.fromarray(pixels))
    preprocessing = pretrained_preprocessing(SQUASH, None)
    found = normalise(deterministic_view(read_image(encode(pixels)), preprocessing)[None], preprocessing)[0]
    assert (found - wanted).abs().mean() < 0.05


@pytest.mark.parametrize("name", ["no_such_model", "test_mambaout_of_nobody"])
def test_an_unknown_backbone_is_refused_with_the_key_to_set(name: str) -> None:
    with pytest.raises(BackboneError, match=rf"backbone\.name: timm knows no '{name}'"):
        pretrained_preprocessing(name, None)


def test_the_statistics_of_the_train_split_normalise_it(pictures: Pictures) -> None:
    paths = list(pictures.table["path"])
    found = stream_moments(pictures.folder(), paths, PREPROCESSING)
    preprocessing = PREPROCESSING.from_dict(
        {**PREPROCESSING.to_dict(), "mean": found.mean(), "std": found.std()}
    )
    views = torch.stack(
        [deterministic_view(read_image(pictures.folder().read(p)), preprocessing) for p in paths]
    )
    x = normalise(views, preprocessing).double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(x.mean(1), torch.zeros(3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(1, correction=0), torch.ones(3).double(), atol=1e-5, rtol=0)
