import base64
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from steps.core.modalities.image.pictures import thumbnail
from tests.core.toys import encode, picture


def pixels(uri: str) -> NDArray[np.uint8]:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


@pytest.mark.parametrize(
    ("height", "width", "shape"), [(40, 80, (60, 120)), (300, 30, (120, 12)), (3, 3, (120, 120))]
)
def test_a_thumbnail_keeps_the_proportions(height: int, width: int, shape: tuple[int, int]) -> None:
    assert pixels(thumbnail(encode(picture(1, height, width)))).shape[:2] == shape


def test_a_thumbnail_has_the_colours_of_the_picture() -> None:
    drawn = pixels(thumbnail(encode(picture(1, 40, 40))))
    np.testing.assert_allclose(drawn.mean(axis=(0, 1)), picture(1, 40, 40).mean(axis=(0, 1)), atol=3)


def test_a_thumbnail_of_sixteen_bit_grey_is_not_white() -> None:
    values = np.full((20, 20), 20_000, dtype=np.uint16)
    assert abs(pixels(thumbnail(encode(values))).mean() - 20_000 / 257) < 2


def test_a_thumbnail_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(picture(1, 40, 80)), "JPEG", exif=exif)
    assert pixels(thumbnail(data)).shape[:2] == (120, 60)
