"""Images behind the seam; see `steps.core.modalities.contract.Modality`."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from steps.core.backbones import timm_adapter
from steps.core.backbones.network import Backbone
from steps.core.backbones.weights import find_weights
from steps.core.data.files import Source
from steps.core.modalities.contract import Copies, Corruption
from steps.core.modalities.image import near_copies as copies
from steps.core.modalities.image.attribution import grad_cam
from steps.core.modalities.image.checks import check_images, shortcuts
from steps.core.modalities.image.corruptions import CORRUPTIONS
from steps.core.modalities.image.formats import endings, unread_endings
from steps.core.modalities.image.hub import fits_hub, write_hub_split
from steps.core.modalities.image.moments import normalisations, stream_moments
from steps.core.modalities.image.onnx_input import ImageInput
from steps.core.modalities.image.pictures import overlay, thumbnail
from steps.core.modalities.image.pixels import Preprocessing, open_image
from steps.core.modalities.image.pretrained import licence, pretrained_preprocessing
from steps.core.modalities.image.prints import copies_across, prints
from steps.core.modalities.image.scan import FileScan, refuse, scan_files
from steps.core.modalities.image.settings import Augmentation, Settings
from steps.core.modalities.image.variants import variants as different
from steps.core.modalities.image.views import MIRRORED_AXES, MirroredViews, Views
from steps.core.system.errors import DataError

__all__ = [
    "endings", "find_weights", "fits_hub", "licence", "normalisations", "prints", "refuse", "shortcuts",
    "unread_endings", "write_hub_split",
]  # fmt: skip

name = "image"
control = None
default_backbone = "tf_efficientnet_lite0"
blank_facts: Mapping[str, Any] = {"format": None, "mode": None, "width": 0, "height": 0}
scan = scan_files
check = check_images
measure = stream_moments
attribute = grad_cam
print_copies = copies_across
views_of = Views.from_meta
deterministic_views = Views.deterministic
symmetric_views = MirroredViews
preprocessing = Preprocessing.from_dict

FLIP_PROBABILITY = 0.5
FLAT = 2.0  # of 255: standard deviation of a fingerprint below which there is nothing to compare
GREY = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
LAPLACIAN = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).view(1, 1, 3, 3)


def columns_of(table: pd.DataFrame) -> list[str]:
    """Return no columns: an image is a file."""
    return []


def describe(data: bytes) -> dict[str, Any]:
    """Return format, mode, width and height, which stand in the file's header."""
    image = open_image(data)
    return {"format": image.format, "mode": image.mode, "width": image.width, "height": image.height}


def comparable_rows(scan: FileScan, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows whose fingerprint is not flat."""
    return rows[[scan.prints[row].std() >= FLAT for row in rows]]


def near_copies(scan: FileScan, rows: NDArray[np.int64], threshold: float, near_copy_margin: float) -> Copies:
    """Return pairs whose fingerprints agree after alignment; see `image.near_copies`."""
    return copies.near_copies(scan.prints, rows, threshold, near_copy_margin)


def variants(scan: FileScan, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say of near copies whether they differ in colour or in one place; see `image.variants`."""
    return different(scan.prints, scan.colours, pairs)


def corruptions(
    preprocessing: Preprocessing,
) -> Mapping[str, tuple[Corruption, tuple[float, float, float]]]:
    """Return what can be done to a view."""
    return CORRUPTIONS


def pretrained(backbone: str, settings: Settings, table: pd.DataFrame, weights: Path) -> Preprocessing:
    """Return size, crop, interpolation and statistics of a timm model's pretraining."""
    if settings.size != "auto":
        return pretrained_preprocessing(backbone, settings.size)
    known = table[table["width"] > 0]
    sides = known[["width", "height"]].min(axis=1).to_list()
    return pretrained_preprocessing(backbone, None, sides, settings.max_auto_size)


def undecided(settings: Settings) -> list[str]:
    """Return the flips whose probability is `auto`."""
    return [name for name in MIRRORED_AXES if getattr(settings.augmentation, name) == "auto"]


def decided(settings: Settings, kept: Mapping[str, bool]) -> Settings:
    """Return the settings with a probability of one half for the flips that are kept, 0 for others."""
    found = {name: FLIP_PROBABILITY * kept.get(name, False) for name in undecided(settings)}
    return settings.model_copy(update={"augmentation": settings.augmentation.model_copy(update=found)})


def views(preprocessing: Preprocessing, settings: Settings, seed: int) -> Views:
    """Return the views of a training."""
    ranges = Augmentation(**settings.augmentation.model_dump())
    return Views(preprocessing, ranges, seed, settings.oversampling)


def load_backbone(name: str, preprocessing: Preprocessing, weights: str | None) -> Backbone:
    """Build a timm model and cut it into stages."""
    return timm_adapter.load(name, preprocessing.side, weights)


def control_answers(
    source: Source, train: Sequence[str], labels: NDArray[np.int64], asked: Sequence[str], seed: int
) -> None:
    """Return nothing: there is no control for images."""


def slice_facts(sample: Tensor, view: Tensor) -> dict[str, float]:
    """Return facts of an image (3, height, width), the first two of its view.

    `brightness`, the mean luminance, 0 to 1; `sharpness`, the variance of the luminance's Laplacian; `size`,
    the image's pixels.
    """
    grey = (view / 255 * GREY).sum(dim=0)
    edges = F.conv2d(grey[None, None], LAPLACIAN)
    return {
        "brightness": round(grey.mean().item(), 6),
        "sharpness": round(edges.var().item(), 6),
        "size": float(sample.shape[1] * sample.shape[2]),
    }


def show(data: bytes, alt: str = "") -> str:
    """Return a thumbnail."""
    tag = '<img alt="{1}" src="{0}">' if alt else '<img src="{0}" alt="">'
    return Markup(tag).format(thumbnail(data), alt)


def show_attribution(data: bytes, preprocessing: Preprocessing, heat: Tensor) -> str:
    """Return the view with the map in red upon it."""
    return Markup('<img alt="where it looked" src="{}">').format(overlay(data, preprocessing, heat))


def input_graph(preprocessing: Preprocessing) -> ImageInput:
    """Return resize, crop and normalisation."""
    return ImageInput(preprocessing)


def from_request(value: Any) -> bytes:
    """Return the bytes of an image in base64.

    Raises:
        DataError: It is no base64.
    """
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise DataError("not base64") from None
