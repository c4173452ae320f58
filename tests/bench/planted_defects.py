"""A folder with every kind of trouble at known places, and pairs of pictures that are nearly copies."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from .photographs import CORNERS, photograph

SIZE = (250, 188)
SPLITS = ("train", "train", "train", "val", "test")
Picture = Image.Image


def pictures(count: int, first: int = 0) -> list[tuple[str, Picture]]:
    """Return class and picture of `count` different photographs."""
    names = list(CORNERS)[:3]
    numbers = range(first, first + count)
    return [(names[n % 3], photograph(10_000 + n, names[n % 3]).resize(SIZE)) for n in numbers]


def jpeg(image: Picture, quality: int = 88, **more: object) -> bytes:
    """Encode as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, **more)
    return buffer.getvalue()


def encoded(image: Picture, kind: str) -> bytes:
    """Encode in another format."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write(folder: Path, path: str, data: bytes) -> str:
    """Write one file; return its path."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)
    return path


def plant_clean(folder: Path, shown: list[tuple[str, Picture]]) -> list[str]:
    """Write split/class/file of pictures that have nothing wrong with them."""
    return [
        write(folder, f"{SPLITS[n % 5]}/{name}/p{n:04d}.jpg", jpeg(image))
        for n, (name, image) in enumerate(shown)
    ]


def header_of(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds next to nothing: a decompression bomb."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def plant_broken(folder: Path, images: list[Picture]) -> list[str]:
    """Write files that cannot be read."""
    whole = jpeg(images[0])
    kinds = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"<html>not found</html>",
        "bomb": header_of(60_000, 60_000),
        "no_pixels": encoded(images[1], "PNG")[:100],
    }
    return [write(folder, f"train/square/{name}.jpg", data) for name, data in kinds.items()]


def plant_oddities(folder: Path, images: list[Picture]) -> dict[str, list[str]]:
    """Write files that can be read and are unusual; return them by the finding that should say so."""
    a, b, c, d, e, f, g, h, i, j = images[:10]
    deep = Image.fromarray((np.asarray(b.convert("L")).astype(np.uint16) << 8) + 7)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = io.BytesIO()
    c.convert("P").save(frames, "GIF", save_all=True, append_images=[d.convert("P")])
    say = "no file is "
    planted = {
        f"{say}wrong extension": ("wrong.png", jpeg(a)),
        f"{say}16-bit": ("deep.png", encoded(deep, "PNG")),
        f"{say}animated": ("film.gif", frames.getvalue()),
        f"{say}CMYK": ("print.jpg", jpeg(e.convert("CMYK"))),
        f"{say}palette": ("palette.png", encoded(f.convert("P"), "PNG")),
        f"{say}alpha": ("alpha.png", encoded(g.convert("RGBA"), "PNG")),
        f"{say}rotated by EXIF": ("turned.jpg", jpeg(h, exif=exif)),
        "colour and grey are not mixed": ("grey.jpg", jpeg(i.convert("L"))),
        "width lies between the limits": ("tiny.png", encoded(j.resize((6, 40)), "PNG")),
        "height lies between the limits": ("long.png", encoded(j.resize((40, 3000)), "PNG")),
        "file names are plain ASCII": ("blüte.jpg", jpeg(ImageOps.solarize(a))),
    }
    found = {check: [write(folder, f"train/disc/{n}", data)] for check, (n, data) in planted.items() if n}
    black = Image.new("RGB", SIZE)
    found["no picture is blank"] = [
        write(folder, f"train/disc/black{n}.png", encoded(black.resize((200 + n, 150)), "PNG"))
        for n in range(2)
    ]
    return found


def plant_names(folder: Path, images: list[Picture]) -> dict[str, list[str]]:
    """Write names that collide, what is left aside, and versions of one original in two splits."""
    a, b, c, d, e = images[:5]
    outside = write(folder.parent, "outside.jpg", jpeg(a))
    pair = [
        write(folder, "train/triangle/Leaf.jpg", jpeg(b)),
        write(folder, "train/triangle/leaf.jpg", jpeg(ImageOps.invert(b))),
    ]
    write(folder, "train/Square/0.jpg", jpeg(c))
    (folder / "train/disc/link.jpg").symlink_to(folder.parent / outside)
    (folder / "train/rhombus").mkdir()
    crop = d.crop((60, 40, 200, 150))  # too far from its original for any picture to tell
    write(folder, "train/square/img_7.jpg", jpeg(d))
    write(folder, "train/disc/IMG_0003.jpg", jpeg(e))
    return {
        "file names differ in more than case and accents' spelling": pair,
        "class names differ in more than case and spaces": ["Square", "square"],
        "no file is ignored: link out": ["train/disc/link.jpg"],
        "no file is ignored: hidden": [write(folder, "train/disc/.DS_Store", b"x")],
        "no file is ignored: no sample": [write(folder, "train/disc/readme.txt", b"x")],
        "no file is ignored: empty folder": ["train/rhombus"],
        "no version of one original lies in two splits": [
            write(folder, "test/square/img_7_rot90.jpg", jpeg(crop.rotate(90, expand=True)))
        ],
    }


def cropped(image: Picture, share: float, right: float, down: float) -> Picture:
    """Cut `share` off both sides, at a place from 0 to 1, and keep what is left."""
    width, height = image.size
    left, top = share * width * right, share * height * down
    box = (round(left), round(top), round(left + (1 - share) * width), round(top + (1 - share) * height))
    return image.crop(box)


def resized(image: Picture, factor: float) -> Picture:
    """Change the size, not the proportions."""
    return image.resize((round(image.width * factor), round(image.height * factor)))


NEAR: dict[str, Callable[[Picture], Picture]] = {
    "JPEG 60": lambda x: Image.open(io.BytesIO(jpeg(x, 60))),
    "JPEG 95": lambda x: Image.open(io.BytesIO(jpeg(x, 95))),
    "90 % size": lambda x: resized(x, 0.9),
    "110 % size": lambda x: resized(x, 1.1),
    "flip": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "5 % crop": lambda x: cropped(x, 0.05, 0.5, 0.5),
    "5 % corner crop": lambda x: cropped(x, 0.05, 1.0, 0.0),
    "all of them": lambda x: resized(cropped(ImageOps.mirror(x), 0.05, 0.2, 0.8), 0.9),
}
"""What people and scrapers do to a picture, each saved as JPEG 75 afterwards."""


def captioned(image: Picture) -> Picture:
    """Write over the lowest eighth."""
    shown = image.convert("RGB")
    pen = ImageDraw.Draw(shown)
    pen.rectangle((0, round(0.88 * shown.height), shown.width, shown.height), fill="black")
    pen.text((5, round(0.9 * shown.height)), "figure 3, as published in 2023", fill="white")
    return shown


HARDER: dict[str, Callable[[Picture], Picture]] = {
    "10 % crop": lambda x: cropped(x, 0.1, 0.5, 0.5),
    "10 % corner crop": lambda x: cropped(x, 0.1, 1.0, 0.0),
    "20 % crop": lambda x: cropped(x, 0.2, 0.5, 0.5),
    "20 % corner crop": lambda x: cropped(x, 0.2, 0.0, 1.0),
    "caption": captioned,
    "letterbox": lambda x: ImageOps.expand(x, (0, x.height // 8)),
    "2 degrees": lambda x: x.rotate(2, Image.Resampling.BICUBIC),
    "5 degrees": lambda x: x.rotate(5, Image.Resampling.BICUBIC),
    "90 degrees": lambda x: x.rotate(90, expand=True),
}
"""What is promised of none of these: docs/data.md says how many are found."""


def framed(pixels: np.ndarray, level: int) -> np.ndarray:  # type: ignore[type-arg]
    """Lighten the border of pictures (n, side, side, 3), a twentieth of the side wide, by `level` of 255."""
    wide = max(1, pixels.shape[1] // 20)
    out = pixels.astype(np.int16) + level
    out[:, wide:-wide, wide:-wide] -= level
    return out.clip(0, 255).astype(np.uint8)
