"""Pictures that are alike in grey and differ in what they show: colours of a product, filled-in forms."""

import numpy as np
from PIL import Image, ImageDraw

from .photographs import HEIGHT, WIDTH, outline, surface

COLOURS = {"red": (60, -30, -30), "green": (-30, 30, -30), "blue": (-30, -10, 70)}
LUMINANCE = np.array([0.299, 0.587, 0.114])
PAPER = (600, 800)
BOXES = 6  # of a form, of which one is ticked


def product(number: int, colour: str) -> Image.Image:
    """Return one of many products on its background, in one of the COLOURS, equally light in all of them."""
    draw = np.random.default_rng([7, number])
    grey = np.asarray(surface(draw).convert("L"), dtype=np.float64)
    mask = (
        np.asarray(outline(draw, ("disc", "square", "star")[number % 3]), dtype=np.float64)[..., None] / 255
    )
    tint = np.array(COLOURS[colour]) - LUMINANCE @ np.array(COLOURS[colour])
    pixels = 40 + 0.65 * grey[..., None] + mask * tint
    size = (WIDTH // 2, HEIGHT // 2)
    return Image.fromarray(np.uint8(np.clip(pixels, 0, 255))).resize(size)


def form(seed: int, ticked: int) -> Image.Image:
    """Return a sheet of one form, filled in by hand: some lines of writing, and a tick in one of BOXES."""
    printed = np.random.default_rng(11)  # the same on every sheet
    sheet = Image.new("L", PAPER, 250)
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((30, 30, 570, 110), fill=90)
    for row in range(12):
        top = 140 + 50 * row
        pen.rectangle((40, top, 40 + int(printed.integers(80, 200)), top + 12), fill=60)
        pen.line((260, top + 30, 560, top + 30), fill=40, width=3)
    boxes = [(60 + 85 * number, 745, 100 + 85 * number, 785) for number in range(BOXES)]
    for box in boxes:
        pen.rectangle(box, outline=30, width=4)
    hand = np.random.default_rng([13, seed])
    for row in hand.choice(12, 6, replace=False):
        right, base = 265 + np.cumsum(hand.uniform(4, 14, 24)), 140 + 50 * row + 18
        pen.line(
            [(x, base + y) for x, y in zip(right, hand.normal(scale=9, size=24), strict=True)],
            fill=50,
            width=4,
        )
    left, top, right, bottom = boxes[ticked]
    pen.line((left, top, right, bottom), fill=20, width=9)
    pen.line((left, bottom, right, top), fill=20, width=9)
    return sheet
