"""Data sets of boxes and outlines, which have no label for a whole sample: told by their files, refused."""

import os
import re
from collections.abc import Sequence

from steps.core.data.files import Folder
from steps.core.system.errors import DataError

INSTEAD = (
    "a sample is given one label here, or a set of labels. Export it for classification (Roboflow: Folder "
    "Structure or Multi-Label Classification; CVAT: ImageNet, or tags; Label Studio: Choices), or write a "
    "table with a row for each sample and the columns path and labels"
)
NAMES = {
    r"(^|/)(_annotations\.coco|instances_[^/]*)\.json$": "COCO's annotations",
    r"(^|/)_annotations\.csv$": "boxes in a table",
    r"(^|/)_annotations\.txt$": "boxes in a text file",
    r"\.createml\.json$": "CreateML's annotations",
}
LINE = re.compile(rb"\d+( +-?\d*\.?\d+(e-?\d+)?){4,}\s*$")  # class, then numbers: a box or an outline
LOOKED_AT = 20  # files beside samples that are read


def refuse_boxes(folder: Folder, files: Sequence[str], endings: tuple[str, ...]) -> None:
    """Refuse a folder whose annotations are boxes or outlines.

    Raises:
        DataError: It is one; says what was found, and what to export instead.
    """
    for path in files:
        for pattern, what in NAMES.items():
            if re.search(pattern, path.lower()):
                raise DataError(
                    f"{folder.url} is a data set of boxes or outlines ({what}: {path}): {INSTEAD}"
                )
    stems = {os.path.splitext(path)[0] for path in files if path.lower().endswith(endings)}
    for ending, what, holds in (
        (".txt", "YOLO's labels", holds_lines),
        (".xml", "Pascal VOC's annotations", None),
    ):
        notes = [path for path in files if path.lower().endswith(ending)]
        beside = [path for path in notes if stem_of_sample(path) in stems]
        if len(beside) * 2 < len(stems) or not beside:
            continue
        read = [folder.read(path) for path in beside[:LOOKED_AT]]
        if all(holds(data) for data in read) if holds else all(b"<bndbox" in data for data in read):
            raise DataError(
                f"{folder.url} is a data set of boxes or outlines ({what}: {beside[0]}): {INSTEAD}"
            )


def stem_of_sample(path: str) -> str:
    """Return the path without ending of the sample that a file of annotations may be about."""
    stem = os.path.splitext(path)[0]
    parts = stem.split("/")
    for place in range(len(parts) - 2, -1, -1):  # YOLO keeps images/x.jpg and labels/x.txt
        if parts[place] == "labels":
            return "/".join([*parts[:place], "images", *parts[place + 1 :]])
    return stem


def holds_lines(data: bytes) -> bool:
    """Say whether every line is a class and the numbers of a box or an outline."""
    return all(LINE.match(line) for line in data.splitlines() if line.strip())
