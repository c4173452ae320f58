"""TIFF files that Pillow opens and would make another picture of than the one that is in them."""

from typing import Any

from PIL import Image

BITS, PHOTOMETRIC, SAMPLES, EXTRA = 258, 262, 277, 338  # tags of the header
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 4: 1, 5: 4, 6: 3, 8: 3}  # channels of colour, by the photometric tag
ALPHA = {1, 2, 999}  # what an extra channel is called that is transparency; the last is Corel's


def misread(image: Image.Image) -> str | None:
    """Return why a TIFF is refused: bands that would be dropped, or bits that would be cut off; None if read.

    Grey of 16 bits is not: it is scaled to 8, and a warning names it.
    """
    tags: Any = getattr(image, "tag_v2", {})
    bits = numbers(tags.get(BITS, (1,)))
    colours = COLOURS.get(int(tags.get(PHOTOMETRIC, 1)), 1)
    samples, extra = int(tags.get(SAMPLES, 1)), numbers(tags.get(EXTRA, ()))
    alpha = 1 if extra and extra[0] in ALPHA else 0
    if samples > colours + alpha:
        return (
            f"a TIFF of {samples} bands, of which {samples - colours - alpha} are neither colour nor "
            "transparency and would be dropped: write the three to train on as PNG or TIFF of 8 bits"
        )
    if max(bits) > 8 and colours > 1:
        return f"a TIFF of {samples} bands of {max(bits)} bits, of which 8 would be kept: save 8 bits a band"
    if max(bits) == 12:
        return "a TIFF of 12 bits, which would be read as 16 and nearly black: save 8 or 16 bits"
    return None


def numbers(value: Any) -> tuple[int, ...]:
    """Return a tag that may be one number or several."""
    return tuple(int(one) for one in value) if isinstance(value, tuple | list) else (int(value),)
