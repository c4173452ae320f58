"""Generated pictures with the size, detail and file size of ordinary photographs, in six classes.

A picture is noise with the 1/f spectrum of natural scenes (Field 1987), coloured, with a lighting
gradient; in it lies one larger object, whose outline is the class. Nothing is downloaded.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT, QUALITY = 500, 375, 88
CORNERS = {"triangle": 3, "square": 4, "pentagon": 5, "star": 10, "disc": 60, "ring": 60}
SPLITS = {"train": 0.6, "val": 0.2, "test": 0.2}


def texture(draw: np.random.Generator, falloff: float) -> NDArray[np.float64]:
    """Return noise (height, width) in 0..1 whose amplitude falls with frequency to the given power."""
    rows, columns = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
    frequency = np.maximum(np.hypot(rows, columns), 1 / WIDTH)
    noise = draw.normal(size=frequency.shape) + 1j * draw.normal(size=frequency.shape)
    plane = np.fft.irfft2(noise / frequency**falloff, s=(HEIGHT, WIDTH))
    low, high = np.percentile(plane, (1, 99))
    return np.clip((plane - low) / (high - low), 0, 1)


def surface(draw: np.random.Generator) -> Image.Image:
    """Return a textured, tinted, unevenly lit picture."""
    shared = texture(draw, 1.1)[..., None]
    own = np.stack([texture(draw, 1.0) for _ in range(3)], axis=-1)
    tint = draw.uniform(0.35, 1.0, size=3)
    light = np.linspace(draw.uniform(0.6, 1.0), draw.uniform(0.6, 1.0), WIDTH)[None, :, None]
    grain = draw.normal(scale=0.012, size=(HEIGHT, WIDTH, 3))
    pixels = (0.75 * shared + 0.25 * own) * tint * light + grain
    return Image.fromarray(np.uint8(255 * np.clip(pixels, 0, 1)))


def outline(draw: np.random.Generator, name: str) -> Image.Image:
    """Return a mask with one object of the class, anywhere, at any angle, 15 to 30 % of the width."""
    mask = Image.new("L", (WIDTH, HEIGHT), 0)
    radius = draw.uniform(0.15, 0.30) * WIDTH / 2 * 1.6
    centre = np.array([draw.uniform(radius, WIDTH - radius), draw.uniform(radius, HEIGHT - radius)])
    corners = CORNERS[name]
    angles = draw.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(corners) / corners
    reach = np.where(np.arange(corners) % 2, 0.45, 1.0) if name == "star" else np.ones(corners)
    points = centre + radius * reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    pen = ImageDraw.Draw(mask)
    pen.polygon([tuple(point) for point in points], fill=int(draw.uniform(150, 255)))
    if name == "ring":
        inner = centre + 0.55 * (points - centre)
        pen.polygon([tuple(point) for point in inner], fill=0)
    return mask.filter(ImageFilter.GaussianBlur(draw.uniform(0.5, 2.5)))


def photograph(seed: int, name: str) -> Image.Image:
    """Return one picture; the same seed gives the same pixels."""
    draw = np.random.default_rng(seed)
    return Image.composite(surface(draw), surface(draw), outline(draw, name))


def write_photographs(folder: Path, count: int) -> None:
    """Write `folder`/<split>/<class>/<number>.jpg; classes in turn, splits by `SPLITS`."""
    names = list(CORNERS)
    bounds = np.cumsum(list(SPLITS.values())) * count
    for number in range(count):
        split = list(SPLITS)[int(np.searchsorted(bounds, number, side="right"))]
        name = names[number % len(names)]
        target = folder / split / name / f"{number:05d}.jpg"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            photograph(number, name).save(target, quality=QUALITY)


if __name__ == "__main__":
    write_photographs(Path(sys.argv[1]), int(sys.argv[2]))
