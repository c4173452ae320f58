"""Generated pictures that are all alike, as chest X-rays are: smooth blobs of one template, jittered."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 224
# Of each blob: where it lies (right, down), how wide and high it is (of the side), and how bright.
TEMPLATE = np.array([
    (0.50, 0.55, 0.45, 0.55, 0.70),  # the body
    (0.31, 0.45, 0.13, 0.24, -0.55),  # the lungs
    (0.69, 0.45, 0.13, 0.24, -0.55),
    (0.50, 0.50, 0.05, 0.50, 0.30),  # the spine
    (0.57, 0.62, 0.13, 0.12, 0.45),  # the heart
    (0.30, 0.85, 0.20, 0.10, 0.35),  # the diaphragm
    (0.70, 0.85, 0.20, 0.10, 0.35),
    (0.30, 0.17, 0.18, 0.03, 0.25),  # the collar bones
    (0.70, 0.17, 0.18, 0.03, 0.25),
    *[(x, 0.25 + 0.08 * k, 0.15, 0.015, 0.12) for k in range(6) for x in (0.3, 0.7)],  # the ribs
])  # fmt: skip
JITTER = np.array([0.01, 0.01, 0.005, 0.005, 0.03])
MARKS = 12  # blobs of a picture's own
SMOOTH = 14  # pixels a side of the noise that is blown up to a picture


def radiograph(seed: int, own: float = 1.0, side: int = SIDE) -> Image.Image:
    """Return one grey picture of `side` pixels a side; the same seed gives the same pixels.

    The less is its `own`, 0 to 1, the more alike the pictures are.
    """
    draw = np.random.default_rng(seed)
    template = TEMPLATE + draw.normal(size=TEMPLATE.shape) * own * JITTER
    template[:, :4] *= draw.uniform(0.92, 1.08)  # how far away the patient stands, and where
    template[:, :2] += 0.5 - template[0, :2] + draw.uniform(-0.04, 0.04, 2)
    marks = draw.uniform([0.1, 0.1, 0.02, 0.02, -0.15], [0.9, 0.9, 0.08, 0.08, 0.15], (MARKS, 5))
    marks[:, 4] *= own
    gain, offset = draw.uniform(0.85, 1.1), draw.uniform(0.1, 0.2)
    noise = Image.fromarray(draw.normal(size=(SMOOTH, SMOOTH)).astype(np.float32))
    grown = np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC))
    pixels = blobs(np.concatenate([template, marks]), side) + 0.04 * own * grown
    pixels += draw.normal(scale=0.01, size=pixels.shape)
    return Image.fromarray(np.uint8(255 * np.clip(offset + 0.8 * gain * pixels, 0, 1)))


def blobs(facts: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Add up blobs (blobs, 5), each the product of a curve across and one down (side, side)."""
    across, down, wide, high, bright = facts.T
    wide, high = np.maximum(wide, 0.008), np.maximum(high, 0.008)
    grid = (np.arange(side) + 0.5) / side
    right = np.exp(-0.5 * ((grid[None] - across[:, None]) / wide[:, None]) ** 2)
    below = np.exp(-0.5 * ((grid[None] - down[:, None]) / high[:, None]) ** 2)
    found: NDArray[np.float64] = (below * bright[:, None]).T @ right
    return found
