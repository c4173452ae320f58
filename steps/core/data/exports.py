"""Exports of annotation tools in one file: Label Studio's json, CVAT's xml, COCO's json, or rows as json."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pandas as pd

from steps.core.data.boxes import INSTEAD
from steps.core.data.columns import choose, told
from steps.core.data.files import Folder
from steps.core.data.label_columns import named
from steps.core.data.manifests import SampleKinds, canonical, locate, normalise_manifest, tell
from steps.core.data.settings import Columns
from steps.core.system.errors import DataError

EXPORT_ENDINGS = (".json", ".xml")
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts this before the name of an uploaded file


def read_export(
    folder: Folder, cache: Path, kinds: SampleKinds, said: Columns | None
) -> tuple[str, pd.DataFrame]:
    """Read the export that is the folder's root; see `steps.core.data.layouts.read_layout`.

    Raises:
        DataError: It cannot be parsed, is none of these, or holds boxes or outlines.
    """
    name = folder.root
    data = folder.read_root()
    try:
        table, tool = parse_xml(data, name) if name.lower().endswith(".xml") else parse_json(data, name)
    except (ValueError, RecursionError, ElementTree.ParseError) as error:
        raise DataError(f"{name} cannot be read: {error}; export it again, or write a table") from None
    if table.empty:
        raise DataError(f"{name} has no sample with a label: annotate some, and export it again")
    parent = folder.parent(cache)
    wanted = said.path if said and said.path else None
    column = told(table, wanted, "path", name) if wanted else named(table, "path")
    column, paths = locate(table, name, parent, kinds, column)
    chosen = choose(table, name, said, column)
    tell(folder.url.rpartition("/")[2], chosen, tool, str(paths[0]))
    return parent.url, normalise_manifest(canonical(table, chosen, paths, name), name)


def parse_json(data: bytes, name: str) -> tuple[pd.DataFrame, str]:
    """Return the rows of a json export, and which tool's it is.

    Raises:
        DataError: It is none that is known, or holds boxes or outlines.
        ValueError: It is no json.
    """
    found = json.loads(data)
    if isinstance(found, dict) and {"images", "annotations", "categories"} <= set(found):
        return coco_rows(found, name), "COCO"
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise DataError(
            f"{name} is no list of samples: expected an export of Label Studio or COCO, or a list of "
            '{"path": ..., "label": ...}'
        )
    if any("data" in one and "annotations" in one for one in found):
        return studio_rows(found, name), "Label Studio"
    if any("choice" in one and "annotation_id" in one for one in found):
        return short_studio_rows(found), "Label Studio"
    return pd.DataFrame(found, dtype=object), "json"


def studio_rows(tasks: Sequence[Mapping[str, Any]], name: str) -> pd.DataFrame:
    """Return path and label of Label Studio's tasks; one that nobody has answered is left out.

    Raises:
        DataError: The answers are boxes or outlines.
    """
    rows, other = [], set()
    for task in tasks:
        done = [one for one in task.get("annotations", []) if not one.get("was_cancelled")]
        results = done[-1].get("result", []) if done else []
        other |= {one.get("type") for one in results} - {"choices", "taxonomy"}
        chosen = [label for one in results for label in one.get("value", {}).get("choices", [])]
        if chosen:
            rows.append((studio_path(task["data"]), chosen))
    if not rows and other:
        raise DataError(f"{name} is an export of Label Studio with {sorted(map(str, other))}: {INSTEAD}")
    return rows_of(rows)


def short_studio_rows(tasks: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return path and label of what Label Studio calls JSON-MIN."""
    rows = []
    for task in tasks:
        choice = task.get("choice")
        chosen = choice.get("choices", []) if isinstance(choice, dict) else [choice] if choice else []
        if chosen:
            rows.append((studio_path(task), chosen))
    return rows_of(rows)


def studio_path(data: Mapping[str, Any]) -> str:
    """Return the file of a task: of `/data/upload/1/1b2c3d4e-a.jpg` a.jpg, of `/files/?d=x/a.jpg` x/a.jpg.

    Raises:
        DataError: The task names none.
    """
    for value in data.values():
        if isinstance(value, str) and "." in value.rpartition("/")[2]:
            address = urlsplit(value)
            path = parse_qs(address.query).get("d", [address.path])[0]
            above, slash, file = path.rpartition("/")
            return UPLOADED.sub("", file) if "/upload/" in path else f"{above}{slash}{file}"
    raise DataError(f"a task of Label Studio names no file: {str(dict(data))[:100]}")


def coco_rows(found: Mapping[str, Any], name: str) -> pd.DataFrame:
    """Return path and labels of COCO's json, whose annotations are categories alone.

    Raises:
        DataError: They are boxes or outlines.
    """
    drawn = [one for one in found["annotations"] if one.get("bbox") or one.get("segmentation")]
    if drawn:
        raise DataError(
            f"{name} is COCO's, with {len(drawn)} boxes or outlines in {len(found['images'])} images: "
            f"{INSTEAD}"
        )
    names = {one["id"]: str(one["name"]) for one in found["categories"]}
    labels: dict[Any, list[str]] = {}
    for one in found["annotations"]:
        labels.setdefault(one["image_id"], []).append(names[one["category_id"]])
    return rows_of([(one["file_name"], labels[one["id"]]) for one in found["images"] if one["id"] in labels])


def parse_xml(data: bytes, name: str) -> tuple[pd.DataFrame, str]:
    """Return the rows of what CVAT calls `CVAT for images`: a tag is a label.

    Raises:
        DataError: It is none, declares entities, or holds boxes or outlines.
    """
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data or b"\0" in data:
        raise DataError(
            f"{name} declares entities, or is no UTF-8: expected CVAT's annotations.xml as it was exported"
        )
    images = ElementTree.fromstring(data).findall("image")
    rows = [
        (one.get("name", ""), [tag.get("label", "") for tag in one.findall("tag")], one.get("subset"))
        for one in images
    ]
    shapes = sorted({child.tag for one in images for child in one} - {"tag"})
    if shapes and not any(labels for _, labels, _ in rows):
        raise DataError(f"{name} is CVAT's, with {', '.join(shapes)}: {INSTEAD}")
    table = rows_of([(path, labels) for path, labels, _ in rows if labels])
    subsets = [subset or "" for _, labels, subset in rows if labels]
    return table.assign(split=subsets) if all(subsets) and subsets else table, "CVAT"


def rows_of(rows: Sequence[tuple[str, list[str]]]) -> pd.DataFrame:
    """Return a table of path and label, or of path and labels where a sample has several."""
    paths = [path for path, _ in rows]
    if all(len(labels) == 1 for _, labels in rows):
        return pd.DataFrame({"path": paths, "label": [str(labels[0]) for _, labels in rows]}, dtype=object)
    return pd.DataFrame({"path": paths, "labels": [labels for _, labels in rows]}, dtype=object)
