import base64
import io

import numpy as np
import pytest
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from PIL import Image

from steps.core.report import plots

HISTORY = [{"epoch": n, "train_loss": 1 / n, "val_loss": 1.1 / n} for n in (1, 2, 3)]
ROWS = [
    {"count": 5.0, "confidence": 0.6, "accuracy": 0.5},
    {"count": 9.0, "confidence": 0.9, "accuracy": 1.0},
]
COUNTS = np.array([[5.0, 1.0], [0.0, 7.0]])


def pixels(uri: str) -> NDArray[np.uint8]:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_pictures_are_drawn_the_same_every_time_and_show_their_numbers() -> None:
    for draw, one, other in (
        (lambda c: plots.confusion(c, ["a", "b"]), COUNTS, COUNTS[::-1]),
        (lambda r: plots.reliability({"before": r, "after": ROWS}), ROWS, ROWS[:1]),
        (lambda h: plots.curves({"model": h}), HISTORY, HISTORY[:2]),
    ):
        assert draw(one) == draw(one)
        assert draw(one) != draw(other)
        assert pixels(draw(one)).std() > 0


def test_no_figure_stays_open() -> None:
    plots.curves({"one": HISTORY, "other": HISTORY})
    assert plt.get_fignums() == []


@pytest.mark.parametrize("classes", [1, 2, 25])
def test_a_confusion_matrix_is_drawn_for_any_number_of_classes(classes: int) -> None:
    labels = [f"class {n}" for n in range(classes)]
    drawn = pixels(plots.confusion(np.eye(classes), labels))
    assert drawn.shape[0] > 100


def test_a_class_without_samples_divides_by_nothing() -> None:
    assert pixels(plots.confusion(np.array([[2.0, 0.0], [0.0, 0.0]]), ["a", "b"])).shape[2] == 3


def test_a_class_name_is_text_and_no_formula() -> None:
    assert plots.confusion(COUNTS, [r"$\frac$", "b"])
