"""Images of a hub data set, written out as files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steps.core.system.errors import DataError


def columns(features: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the column of images and that of class labels; None for one that is not there."""
    from datasets import ClassLabel, Image

    kinds = (Image, ClassLabel)
    image, label = (next((k for k, f in features.items() if isinstance(f, kind)), None) for kind in kinds)
    return image, label


def fits_hub(features: Mapping[str, Any]) -> bool:
    """Say whether a hub data set is one of labelled images."""
    return None not in columns(features)


def write_hub_split(rows: Any, folder: Path) -> None:
    """Write the images of a `datasets.Dataset` with an image and a label column as class/file."""
    from datasets import Image

    image, label = columns(rows.features)
    names = rows.features[label].names
    for number, row in enumerate(rows.cast_column(image, Image(decode=False))):
        source = row[image]
        data = source["bytes"] or Path(source["path"]).read_bytes()
        ending = Path(source["path"] or "x.png").suffix or ".png"
        target = folder / class_folder(names, row[label]) / f"{number:07d}{ending}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def class_folder(names: list[str], number: int | None) -> str:
    """Return a folder's name for a class, whatever the class is called.

    Raises:
        DataError: There is no label: the hub writes -1 or nothing where labels are hidden.
    """
    if number is None or number < 0:
        raise DataError("the data set has pictures without a label: take a split that has them all")
    name = names[number].replace("%", "%25").replace("/", "%2F")
    return f"%2E{name[1:]}" if name.startswith(".") else name
