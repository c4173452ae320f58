import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from steps.core.data.files import Folder
from steps.core.modalities.image.pixels import (
    MAX_PIXELS,
    Preprocessing,
    deterministic_view,
    draw_crop,
    normalise,
    open_image,
    read_image,
    seeded_view,
    view_seed,
)
from steps.core.modalities.image.scan import SIDE, inspect_file
from steps.core.system.errors import DataError
from tests.core.toys import AUGMENTATION, NO_AUGMENTATION, PREPROCESSING, encode, picture

SIDES = st.integers(1, 400)


def tensor(pixels: Any) -> Tensor:
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return read_image(encode(picture(1)))


@given(st.integers(), st.text("0123456789abcdef", min_size=1), st.integers(0, 100))
def test_a_view_seed_is_repeatable_and_fits_a_generator(seed: int, sha256: str, view: int) -> None:
    found = view_seed(seed, sha256, view)
    assert found == view_seed(seed, sha256, view)
    torch.Generator().manual_seed(found)
    assert 0 <= found < 2**63


def test_every_seed_sample_and_view_has_a_view_seed_of_its_own() -> None:
    keys = [(seed, f"{n:064x}", view) for seed in range(5) for n in range(20) for view in range(20)]
    assert len({view_seed(*key) for key in keys}) == len(keys)


def test_a_seeded_view_depends_on_image_and_seed_alone_also_from_eight_threads(image: Tensor) -> None:
    seeds = list(range(40))
    torch.manual_seed(123)
    alone = [seeded_view(image, PREPROCESSING, AUGMENTATION, seed) for seed in seeds]
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(lambda seed: seeded_view(image, PREPROCESSING, AUGMENTATION, seed), reversed(seeds))
        )
    assert all(torch.equal(a, b) for a, b in zip(alone, reversed(together), strict=True))
    assert len({view.numpy().tobytes() for view in alone}) == len(seeds)


def test_a_seeded_view_leaves_the_random_state_and_the_image_as_they_were(image: Tensor) -> None:
    state, before = torch.get_rng_state(), image.clone()
    seeded_view(image, PREPROCESSING, AUGMENTATION, 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(image, before)


@pytest.mark.parametrize("shape", [(40, 48), (48, 40), (36, 36), (7, 90), (1, 1), (300, 20)])
def test_views_have_the_same_shape_whatever_the_image_s(shape: tuple[int, int]) -> None:
    image = tensor(picture(2, *shape))
    for view in (
        deterministic_view(image, PREPROCESSING),
        seeded_view(image, PREPROCESSING, AUGMENTATION, 1),
    ):
        assert view.shape == (3, PREPROCESSING.side, PREPROCESSING.side)
        assert view.dtype == torch.uint8


def test_the_plain_view_hashes_equal_twice(image: Tensor) -> None:
    view = deterministic_view(image, PREPROCESSING)
    assert view.numpy().tobytes() == deterministic_view(image.clone(), PREPROCESSING).numpy().tobytes()


def test_the_plain_view_is_the_centre_of_the_image_with_its_shorter_side_resized() -> None:
    image = tensor(picture(1, PREPROCESSING.resize, 48))
    assert torch.equal(deterministic_view(image, PREPROCESSING), image[:, 2:34, 8:40])
    larger = tensor(picture(1, 2 * PREPROCESSING.resize, 96))
    smaller = F.resize(larger, [36, 48], InterpolationMode.BICUBIC, antialias=True)
    assert torch.equal(deterministic_view(larger, PREPROCESSING), smaller[:, 2:34, 8:40])


@given(st.integers(0, 2**62))
def test_ranges_that_change_nothing_give_a_plain_resize(seed: int) -> None:
    image = tensor(picture(4, 40, 40))
    wanted = F.resize(
        image, [PREPROCESSING.side, PREPROCESSING.side], InterpolationMode.BICUBIC, antialias=True
    )
    assert torch.equal(seeded_view(image, PREPROCESSING, NO_AUGMENTATION, seed), wanted)


def test_a_certain_flip_turns_the_view_over(image: Tensor) -> None:
    still = seeded_view(image, PREPROCESSING, NO_AUGMENTATION, 0)
    across = NO_AUGMENTATION.model_copy(update={"horizontal_flip": 1.0})
    down = NO_AUGMENTATION.model_copy(update={"vertical_flip": 1.0})
    assert torch.equal(seeded_view(image, PREPROCESSING, across, 0), still.flip(2))
    assert torch.equal(seeded_view(image, PREPROCESSING, down, 0), still.flip(1))


@pytest.mark.parametrize(
    "field", ["rotation", "translation", "brightness", "contrast", "saturation", "horizontal_flip"]
)
def test_every_range_does_something(image: Tensor, field: str) -> None:
    ranges = NO_AUGMENTATION.model_copy(update={field: 30.0 if field == "rotation" else 0.5})
    views = {seeded_view(image, PREPROCESSING, ranges, seed).numpy().tobytes() for seed in range(8)}
    assert len(views) > 1


@given(
    SIDES, SIDES, *[st.floats(0, 1)] * 2, *[st.floats(0.05, 20)] * 2, st.lists(st.floats(0, 1)), st.booleans()
)
def test_a_crop_always_lies_inside_the_image(
    height: int,
    width: int,
    area: float,
    area2: float,
    aspect: float,
    aspect2: float,
    rolls: list[float],
    squash: bool,
) -> None:
    ranges = NO_AUGMENTATION.model_copy(update={"crop_area": [area, area2], "crop_aspect": [aspect, aspect2]})
    dice = iter([*rolls, 0.0, 1.0, 0.5, 0.25])

    def draw(low: float, high: float) -> float:
        return low + (high - low) * next(dice)

    top, left, crop_height, crop_width = draw_crop((height, width), ranges, draw, squash)
    assert 1 <= crop_height <= height - top
    assert 1 <= crop_width <= width - left
    assert top >= 0
    assert left >= 0


@given(st.floats(0.2, 0.8), st.floats(0.9, 1.1))
def test_a_crop_has_the_area_and_the_aspect_it_was_drawn_with(area: float, aspect: float) -> None:
    ranges = NO_AUGMENTATION.model_copy(update={"crop_area": [area] * 2, "crop_aspect": [aspect] * 2})
    for squash, base in ((False, (1000, 1000)), (True, (2000, 1000))):
        _, _, height, width = draw_crop((2000, 1000), ranges, lambda low, high: low, squash)
        assert math.isclose(height * width / math.prod(base), area, rel_tol=0.01)
        assert math.isclose(width / height * base[0] / base[1], aspect, rel_tol=0.01)


@pytest.mark.parametrize("shape", [(40, 160), (160, 40)])
def test_a_training_view_keeps_an_object_s_proportions_as_the_deterministic_view_does(
    shape: tuple[int, int],
) -> None:
    """Stripes of a wide image are as wide in a training view as in the one that is evaluated."""
    stripes = (np.indices(shape).sum(0) // 5 % 2 * 255).astype(
        np.uint8
    )  # along a diagonal: one slope, 45 degrees
    image = tensor(np.repeat(stripes[:, :, None], 3, 2))
    for view in (
        deterministic_view(image, PREPROCESSING),
        seeded_view(image, PREPROCESSING, NO_AUGMENTATION, 3),
    ):
        grey = view[0].float()
        along, across = grey.diff(dim=0).abs().mean(), grey.diff(dim=1).abs().mean()
        assert math.isclose(float(along), float(across), rel_tol=0.05)


def test_an_image_turned_by_its_exif_entry_is_read_upright() -> None:
    pixels = picture(5)
    turned = Image.fromarray(np.rot90(pixels, 1).copy())  # the entry 6 says: turn clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    assert torch.equal(read_image(encode(turned, "PNG", exif=exif)), tensor(pixels))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_brightness(kind: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (30, 20), dtype=np.uint16)
    found = read_image(encode(values, kind))
    assert found.shape == (3, 30, 20)
    assert abs(found.double().mean() / 255 - values.mean() / 65535) < 1 / 255
    assert (found[0].double() / 255 - torch.from_numpy(values / 65535)).abs().max() <= 1 / 255


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_a_deep_grey_image_is_kept_or_refused_but_never_blackened(kind: type) -> None:
    grey = np.asarray(Image.fromarray(picture(6)).convert("L"))
    values = grey.astype(kind) / 255 if kind is np.float32 else grey.astype(kind)
    try:
        found = read_image(encode(values.astype(kind), "TIFF"))
    except DataError:
        return
    assert abs(found.double().mean() - grey.mean()) < 2


def test_every_mode_is_read_as_its_colours() -> None:
    pixels = picture(7)
    base = Image.fromarray(pixels)
    grey = np.asarray(base.convert("L"))
    for mode, wanted, tolerance in (
        ("L", np.stack([grey] * 3, 2), 0),
        ("LA", np.stack([grey] * 3, 2), 0),
        ("RGBA", pixels, 0),
        ("P", np.asarray(base.convert("P").convert("RGB")), 0),
        ("1", np.stack([np.asarray(base.convert("1")).astype(np.uint8) * 255] * 3, 2), 0),
    ):
        found = read_image(encode(base.convert(mode), "PNG"))
        assert found.dtype == torch.uint8
        assert (found.int() - tensor(wanted).int()).abs().max() <= tolerance, mode


def test_a_cmyk_photograph_has_the_colours_of_the_rgb_one() -> None:
    pixels = picture(8)
    found = read_image(encode(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=100))
    assert (found.double() - tensor(pixels).double()).abs().mean() < 2


def test_a_palette_with_one_transparent_colour_keeps_its_colours() -> None:
    small = Image.fromarray(picture(9)).quantize(16)
    found = read_image(encode(small, "PNG", transparency=3))
    assert torch.equal(found, tensor(small.convert("RGB")))


def test_a_palette_with_an_alpha_per_colour_keeps_its_colours() -> None:
    small = Image.fromarray(picture(9)).quantize(16)
    found = read_image(encode(small, "PNG", transparency=bytes([0, 128] + [255] * 14)))
    assert torch.equal(found, tensor(small.convert("RGB")))


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def claiming(width: int, height: int) -> bytes:
    header = bytearray(encode(picture(1), "BMP"))
    header[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return bytes(header)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_truncated_image_is_refused(kind: str) -> None:
    with pytest.raises(DataError):
        read_image(truncated(encode(picture(1), kind)))


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 1000, b"path,label\na.png,cat\n", b"\x89PNG\r\n\x1a\n", b"GIF89a"]
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    for read in (open_image, read_image):
        with pytest.raises(DataError):
            read(data)


def test_the_reason_for_a_refusal_is_the_same_every_time() -> None:
    with pytest.raises(DataError) as caught:
        open_image(b"no image")
    assert "0x" not in str(caught.value)


def test_a_header_that_claims_a_gigantic_image_is_refused_before_memory_is_spent() -> None:
    with pytest.raises(DataError, match="400000000 pixels"):
        open_image(claiming(20_000, 20_000))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_header_just_above_the_limit_is_refused() -> None:
    with pytest.raises(DataError, match=f"more than {MAX_PIXELS}"):
        open_image(claiming(10_000, 10_001))
    assert open_image(claiming(10_000, 10_000)).size == (10_000, 10_000)


def test_a_tiff_whose_offsets_are_of_a_wrong_type_is_refused() -> None:
    data = bytearray(encode(picture(1), "TIFF"))
    start = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[start : start + 2], "little")
    entries = [start + 2 + 12 * n for n in range(count)]
    strips = next(at for at in entries if int.from_bytes(data[at : at + 2], "little") == 273)
    data[strips + 2 : strips + 4] = (2).to_bytes(2, "little")  # 2 is text
    with pytest.raises(DataError):
        read_image(bytes(data))


@given(st.data())
def test_a_damaged_image_is_either_refused_or_read_as_pixels(data: st.DataObject) -> None:
    whole = bytearray(encode(picture(1, 12, 10), data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_image(bytes(whole))
    except (DataError, Image.DecompressionBombWarning):
        return
    assert found.dtype == torch.uint8
    assert found.shape[0] == 3


def animated(seed: int) -> bytes:
    frames = [Image.fromarray(picture(seed + n, 12, 10)) for n in range(3)]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of the EXIF
@given(st.integers(0, 10**6), st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"]))
def test_no_damage_to_a_file_stops_the_survey_of_all_the_others(
    tmp_path_factory: pytest.TempPathFactory, seed: int, kind: str
) -> None:
    folder, dice = tmp_path_factory.mktemp("damaged"), np.random.default_rng(seed)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if kind in ("BMP", "PPM") else {"exif": exif}
    whole = bytearray(animated(1) if kind == "GIF" else encode(picture(1, 12, 10), kind, **options))
    for place in dice.integers(0, len(whole), dice.integers(1, 9)):
        whole[place] = dice.integers(0, 256)
    (folder / "a").write_bytes(whole)
    facts, small = inspect_file(Folder(str(folder), folder), "a", None)
    assert small.shape == (SIDE, SIDE, 3)
    assert facts["error"] is None or (facts["error"] and not small.any())


def test_normalising_gives_mean_zero_and_std_one_to_pixels_that_have_the_stated_ones() -> None:
    views = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    values = views.double().transpose(0, 1).flatten(1) / 255
    own = {"mean": values.mean(1).tolist(), "std": values.std(1, correction=0).tolist()}
    x = normalise(views.to(torch.uint8), Preprocessing.from_dict({**PREPROCESSING.to_dict(), **own}))
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    channels = x.double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(channels.std(1, correction=0), torch.ones(3).double(), atol=1e-5, rtol=0)


def test_preprocessing_survives_json_types() -> None:
    assert Preprocessing.from_dict(PREPROCESSING.to_dict()) == PREPROCESSING


def test_a_header_is_read_without_the_pixels() -> None:
    data = encode(picture(1, 200, 200))
    assert open_image(truncated(data)).size == (200, 200)
