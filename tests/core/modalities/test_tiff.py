"""TIFF files of which another picture would be made: refused, each with its reason; the others are read."""

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from steps.core.data.files import Folder
from steps.core.data.ingest import describe_sample
from steps.core.modalities.image.pixels import open_image, read_image
from steps.core.system.errors import DataError
from tests.core.toys import IMAGE


def tiff(bands: int, bits: int, photometric: int, extra: list[int] | None = None) -> bytes:
    """Return an uncompressed TIFF (5, 7, bands) of a ramp, as other programs write it."""
    kind = np.uint8 if bits == 8 else np.uint16
    pixels: NDArray[np.uint8 | np.uint16] = np.arange(5 * 7 * bands).reshape(5, 7, bands).astype(kind)
    body = pixels.astype("<u2" if bits > 8 else "u1").tobytes()
    if bits == 12:
        body = bytes(5 * ((7 * bands * 12 + 7) // 8))
    wide = struct.pack(f"<{bands}H", *[bits] * bands)
    tags = [(256, 4, [7]), (257, 4, [5]), (258, 3, [bits] * bands), (259, 3, [1]), (262, 3, [photometric])]
    tags += [(273, 4, [0]), (277, 3, [bands]), (278, 4, [5]), (279, 4, [len(body)])]
    tags += [(338, 3, extra)] if extra else []
    start = 8 + 2 + 12 * len(tags) + 4
    place, after, entries = start + 2 * bands * 2, b"", b""
    for tag, form, values in tags:
        values = [place] if tag == 273 else values
        data = struct.pack(f"<{len(values)}{'H' if form == 3 else 'I'}", *values)
        if len(data) > 4:
            data, after = struct.pack("<I", start + len(after)), after + data
        entries += struct.pack("<HHI", tag, form, len(values)) + data.ljust(4, b"\0")
    assert len(wide) == 2 * bands
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)
    return (head + after).ljust(place, b"\0") + body


REFUSED = {
    "4 bands of 16 bits": (tiff(4, 16, 2, [0]), "4 bands, of which 1 are neither colour nor transparency"),
    "4 bands of 8 bits": (tiff(4, 8, 2, [0]), "4 bands, of which 1 are neither"),
    "4 bands, of which nothing is said": (tiff(4, 8, 2), "4 bands, of which 1 are neither"),
    "6 bands": (tiff(6, 8, 2, [0, 0, 0]), "6 bands, of which 3 are neither"),
    "5 bands with transparency": (tiff(5, 8, 2, [2, 0]), "5 bands, of which 1 are neither"),
    "grey and another": (tiff(2, 8, 1, [0]), "2 bands, of which 1 are neither"),
    "colour of 16 bits": (tiff(3, 16, 2), "3 bands of 16 bits, of which 8 would be kept"),
    "colour and transparency of 16 bits": (tiff(4, 16, 2, [2]), "4 bands of 16 bits, of which 8"),
    "print of 16 bits": (tiff(4, 16, 5), "4 bands of 16 bits"),
    "grey of 12 bits": (tiff(1, 12, 1), "12 bits, which would be read as 16"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_tiff_that_would_become_another_picture_is_refused_with_the_reason(
    tmp_path: Path, kind: str
) -> None:
    data, says = REFUSED[kind]
    (tmp_path / "a.tif").write_bytes(data)
    found = describe_sample(Folder(str(tmp_path), tmp_path), "a.tif", IMAGE.describe, IMAGE.blank_facts)
    assert says in found["error"]
    with pytest.raises(DataError, match=says):
        read_image(data)


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        (tiff(3, 8, 2), "RGB"),
        (tiff(4, 8, 2, [2]), "RGBA"),
        (tiff(1, 8, 1), "L"),
        (tiff(2, 8, 1, [2]), "LA"),
        (tiff(1, 16, 1), "I;16"),
        (tiff(4, 8, 5), "CMYK"),
    ],
)
def test_other_tiffs_are_read_as_they_are(data: bytes, mode: str) -> None:
    assert open_image(data).mode == mode
    assert read_image(data).shape == (3, 5, 7)


def test_what_is_read_of_three_bands_are_their_numbers() -> None:
    assert read_image(tiff(3, 8, 2)).permute(1, 2, 0).flatten().tolist() == list(range(105))
