"""Write scikit-learn's 1,797 scanned handwritten digits out as an ordinary folder of images."""

import runpy
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

LEVELS = 16  # the scans count dark pixels of a 4 x 4 block, 0 to 16


def write_digits(folder: Path) -> int:
    """Write `folder`/<digit>/<number>.png, 8 x 8 pixels each; return how many."""
    digits = load_digits()
    for number, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        target = folder / str(digit) / f"{number:04d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            Image.fromarray(np.uint8(image * 255 / LEVELS)).save(target)
    return len(digits.target)


if __name__ == "__main__":
    sys.argv[1:1] = ["demo"]
    runpy.run_module("infra", run_name="__main__")
