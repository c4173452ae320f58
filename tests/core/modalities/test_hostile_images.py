"""Pictures made to do harm: to start programs, to take memory, to end the run: refused, or harmless."""

import io
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features
from torchvision.transforms.v2 import functional as F

from steps.core.data.files import Folder
from steps.core.modalities.image import pixels
from steps.core.modalities.image.pixels import DECODERS, MAX_ASPECT, MAX_SCANS, open_image, read_image
from steps.core.modalities.image.scan import inspect_file, refuse
from steps.core.system.errors import DataError
from tests.clone import ROOT
from tests.core.toys import encode, image_settings, picture
from tests.test_bad_inputs import chunk

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(mine) print\n%%EOF\n"


def blank_png(width: int, height: int, bits: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    """Return a black picture of any size, whose file is small."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    data = zlib.compress(bytes((1 + width * channels * bits // 8) * height), 1)
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, colour, 0, 0, 0])
    parts = chunk(b"IHDR", header), extra, chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def sideways() -> bytes:
    """Return a PNG chunk that says the picture is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))


def test_no_program_is_started_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    mark = tmp_path / "started"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    (tmp_path / "a.jpg").write_bytes(POSTSCRIPT)
    for read in (open_image, read_image):
        with pytest.raises(DataError, match="not a readable image"):
            read(POSTSCRIPT)
    facts, _ = inspect_file(Folder(str(tmp_path), tmp_path), "a.jpg", None)
    assert "not a readable image" in facts["error"]
    assert not mark.exists()
    with pytest.raises(OSError, match="image"), Image.open(io.BytesIO(POSTSCRIPT)) as opened:
        opened.load()
    assert mark.exists(), "the library alone starts it, so the test can fail"


def stranger_formats() -> list[str]:
    Image.init()
    need_a_handler = {"BUFR", "GRIB", "HDF5", "WMF"}
    return sorted(set(Image.SAVE) & set(Image.OPEN) - {*DECODERS, *need_a_handler})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of formats that Pillow is going to give up
@pytest.mark.parametrize("kind", stranger_formats())
def test_a_format_without_a_place_in_the_list_is_refused_whole_or_damaged(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    stored, dice = None, np.random.default_rng(0)
    for mode in ("RGB", "L", "F", "1", "P"):
        try:
            stored = encode(Image.fromarray(picture(1)).convert(mode), kind)
            break
        except (OSError, ValueError, KeyError, TypeError):
            continue
    assert stored, f"no mode can be stored as {kind}"
    for damaged in range(20):
        data = bytearray(stored)
        for place in dice.integers(0, len(data), damaged):
            data[place] = dice.integers(0, 256)
        with pytest.raises(DataError, match="not a readable image"):
            read_image(bytes(data))


def test_a_decoder_may_fail_in_any_way_and_only_memory_is_no_fault_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encode(picture(1))
    for error in (RuntimeError, AssertionError, AttributeError, NotImplementedError, zlib.error, KeyError):

        def fail(*args: object, error: type[Exception] = error, **named: object) -> None:
            raise error("inside")

        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, "getexif", fail)
            with pytest.raises(DataError, match=r"cannot be decoded: .*inside"):
                read_image(data)
            patch.setattr(Image, "open", fail)
            with pytest.raises(DataError, match=rf"not a readable image \({error.__name__}\)"):
                read_image(data)

    def full(*args: object, **named: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", full)
    with pytest.raises(MemoryError):
        read_image(data)


@pytest.mark.parametrize("size", [(1, 1000), (1000, 1), (7, 7 * MAX_ASPECT + 1), (3, 3 * MAX_ASPECT)])
def test_of_a_long_picture_the_middle_is_taken(size: tuple[int, int]) -> None:
    height, width = size
    drawn = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = read_image(encode(drawn))
    short = min(size)
    kept = [min(side, MAX_ASPECT * short) for side in size]
    assert list(found.shape[1:]) == kept
    top, left = ((side - keep) // 2 for side, keep in zip(size, kept, strict=True))
    middle = drawn[top : top + kept[0], left : left + kept[1]]
    assert torch.equal(found, F.pil_to_tensor(Image.fromarray(middle)))


def test_a_jpeg_of_too_many_scans_is_refused_before_it_is_worked_through() -> None:
    data = encode(picture(1), "JPEG", progressive=True)
    assert 2 < data.count(b"\xff\xda") < MAX_SCANS
    read_image(data)
    last = data.rindex(b"\xff\xda")
    long = data[:last] + data[last:-2] * MAX_SCANS + data[-2:]
    with pytest.raises(DataError, match=f"scans, more than {MAX_SCANS}"):
        open_image(long)


def test_what_is_longer_than_max_side_is_left_out_by_name_and_never_decoded() -> None:
    import pandas as pd

    table = pd.DataFrame({"width": [4000, 4001, 1], "height": [1, 9, 5000]})
    reasons = refuse(table, image_settings())
    assert reasons[0] is None
    assert reasons[1] == "4001 x 9 pixels, longer than modality.image.max_side (4000)"
    assert "1 x 5000 pixels" in str(reasons[2])


PEAK = """
import sys
from pathlib import Path
from steps.core.modalities.image.pixels import seeded_view
from tests.core.toys import AUGMENTATION, PREPROCESSING


def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


for file in sys.argv[1:]:
    data = Path(file).read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = peak()
    sample = PREPROCESSING.decode(data)
    PREPROCESSING.view(sample)
    seeded_view(sample, PREPROCESSING, AUGMENTATION, 1)
    print(peak() - before)
    del sample
"""
MOST = 1500  # megabytes that params.yaml states of one picture


def peaks(folder: Path, *pictures: bytes) -> list[float]:
    """Return the megabytes that decoding and viewing each of these takes at most, in another process."""
    for number, data in enumerate(pictures):
        (folder / f"{number}.png").write_bytes(data)
    files = [str(folder / f"{number}.png") for number in range(len(pictures))]
    words = [sys.executable, "-c", PEAK, *files]
    ran = subprocess.run(words, capture_output=True, check=True, cwd=ROOT)
    return [float(line) for line in ran.stdout.split()]


def test_a_long_picture_takes_no_more_memory_than_its_pixels(tmp_path: Path) -> None:
    assert max(peaks(tmp_path, blank_png(1_000_000, 1), blank_png(1, 1_000_000), blank_png(9, 200_000))) < 150


@pytest.mark.slow
def test_the_worst_pictures_that_are_allowed_take_no_more_memory_than_params_say(tmp_path: Path) -> None:
    side = 10_000
    assert f"than {MOST / 1000} GB to decode" in (ROOT / "params.yaml").read_text()
    found = peaks(
        tmp_path,
        blank_png(side, side),
        blank_png(side, side, 8, 6, sideways()),
        blank_png(side, side, 16, 0, sideways()),
        blank_png(5, side * side // 5),
    )
    assert max(found) < MOST


def test_large_pictures_are_decoded_one_at_a_time_and_small_ones_are_not_held_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pixels, "LARGE_PIXELS", 1000)
    inside, most, together, gate = 0, 0, threading.Lock(), threading.Barrier(2)
    plain = pixels.decode

    def watched(image: Image.Image, least_side: int | None = None) -> Image.Image:
        nonlocal inside, most
        if image.width * image.height <= 1000:
            gate.wait(60)  # two small ones are in here at once, or this times out
            return plain(image, least_side)
        with together:
            inside += 1
            most = max(most, inside)
        found = plain(image, least_side)
        with together:
            inside -= 1
        return found

    monkeypatch.setattr(pixels, "decode", watched)
    large, small = encode(picture(1, 40, 40)), encode(picture(1, 20, 20))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read_image, [large] * 40))
        list(pool.map(read_image, [small] * 2))
    assert most == 1


@pytest.mark.skipif("AVIF" not in DECODERS, reason="this Pillow has no AVIF")
def test_avif_is_read_and_a_damaged_one_is_refused_whatever_is_damaged(tmp_path: Path) -> None:
    drawn = picture(1, 40, 48)
    data = encode(drawn, "AVIF", quality=100, subsampling="4:4:4")
    assert open_image(data).format == "AVIF"
    assert abs(read_image(data).float() - F.pil_to_tensor(Image.fromarray(drawn)).float()).mean() < 3
    dice, refused = np.random.default_rng(0), 0
    for number in range(120):
        damaged = bytearray(data[: len(data) - dice.integers(1, len(data))] if number % 2 else data)
        for place in dice.integers(0, len(damaged), 8):
            damaged[place] = dice.integers(0, 256)
        try:
            read_image(bytes(damaged))
        except DataError:
            refused += 1
    assert refused > 60, "every cut one, and some of the others"
    (tmp_path / "a.avif").write_bytes(data[:-30])
    assert "cannot be decoded" in inspect_file(Folder(str(tmp_path), tmp_path), "a.avif", None)[0]["error"]


def test_a_decoder_that_is_not_here_is_not_in_the_list_and_the_file_says_what_to_install() -> None:
    code = (
        "from PIL import features; features.check = lambda name: False\n"
        "import sys; sys.modules['pillow_heif'] = None; import importlib.util as u\n"
        "find = u.find_spec; u.find_spec = lambda name: None if name == 'pillow_heif' else find(name)\n"
        "from steps.core.modalities.image import formats as f\n"
        "print(f.DECODERS, f.endings, [one for one in f.unread_endings if one == '.avif'])\n"
        "print(f.unread_format(b'\\0\\0\\0\\x1cftypheic')); print(f.unread_format(b'\\0\\0\\0\\x1cftypavif'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    names, heic, avif = done.stdout.splitlines()
    assert "AVIF" not in names
    assert "HEIF" not in names
    assert "'.avif'" in names.rpartition("[")[2]
    assert "pip install 'headstart[heic]'" in heic
    assert "install a Pillow that has it" in avif


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\0\0\0\x1cftypheic\0\0\0\0mif1", "headstart|read are"),
        (b"\xff\x0a" + bytes(99), r"JPEG XL: convert to PNG or JPEG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", r"JPEG XL: convert"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", r"JPEG 2000: convert"),
        (b"8BPS" + bytes(99), r"Photoshop: convert"),
        (b"<html>", r"read are JPEG, PNG"),
    ],
)
def test_a_format_that_is_known_and_not_read_says_what_to_do(data: bytes, says: str) -> None:
    with pytest.raises(DataError, match=rf"not a readable image \(.*\); .*{says}"):
        open_image(data)


def test_a_photograph_of_a_phone_is_read_with_its_extra() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    drawn = picture(1, 40, 48)
    pillow_heif.from_pillow(Image.fromarray(drawn)).save(buffer, quality=95, chroma=444)
    data = buffer.getvalue()
    assert open_image(data).format == "HEIF"
    assert abs(read_image(data).float() - F.pil_to_tensor(Image.fromarray(drawn)).float()).mean() < 6
    dice = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data[: dice.integers(1, len(data))])
        for place in dice.integers(0, len(damaged), 4):
            damaged[place] = dice.integers(0, 256)
        try:
            read_image(bytes(damaged))
        except DataError:
            continue
