"""Tiny pictures, networks, settings and caches that the tests of core are made of."""

import copy
import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor, nn

from steps.core.backbones.network import Network
from steps.core.backbones.readout import Readout
from steps.core.data.files import Folder
from steps.core.data.files import Source as Data
from steps.core.data.ingest import describe_samples
from steps.core.features.batches import Batches, CachedSource, RecomputedSource, Source
from steps.core.features.embedding import Encoder
from steps.core.features.extraction import Extractor, Sample
from steps.core.modalities.image.pixels import Preprocessing
from steps.core.modalities.image.settings import Augmentation, Settings
from steps.core.modalities.image.views import Views
from steps.core.modalities.networks import build_network
from steps.core.modalities.parts import InputGraph
from steps.core.modalities.registry import Known, modality
from steps.core.modalities.settings import ModalitySettings
from steps.core.modalities.text.settings import Settings as TextSettings
from steps.core.system.storage import write_file
from steps.core.training.recipe import Recipe

LABELS = ["blue", "green", "red"]
PREPROCESSING = Preprocessing(32, 36, "bicubic", (0.48, 0.45, 0.41), (0.23, 0.22, 0.24))
NO_AUGMENTATION = Augmentation(
    crop_area=[1.0, 1.0],
    crop_aspect=[1.0, 1.0],
    horizontal_flip=0.0,
    vertical_flip=0.0,
    rotation=0.0,
    translation=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
)
AUGMENTATION = Augmentation(
    crop_area=[0.5, 1.0],
    crop_aspect=[0.8, 1.25],
    horizontal_flip=0.5,
    vertical_flip=0.5,
    rotation=20.0,
    translation=0.1,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
)
RECIPE = Recipe(
    epochs=2,
    min_steps=0,
    batch_size=5,
    weight_decay=0.01,
    schedule="cosine",
    warmup=0.1,
    clip_norm=1.0,
    label_smoothing=0.1,
    mixup=0.0,
    cutmix=0.0,
    class_weights="none",
    monitor="loss",
    patience=5,
    precision="float32",
    batch_norm="updated",
)
PLAIN = RECIPE.model_copy(update={"label_smoothing": 0.0})
MICRO_BATCH = 4
VIEWS = 2


@dataclass(frozen=True)
class Pictures:
    """A folder split/class/file, and a row per file: path, label (a name), split, sha256."""

    root: Path
    table: pd.DataFrame

    def folder(self) -> Folder:
        """Open the root."""
        return Folder(str(self.root), self.root.with_name("remote"))

    def index(self) -> pd.DataFrame:
        """Return the table as the cache's index has it, with numbers for labels."""
        return self.table.assign(label=self.table["label"].map(LABELS.index))


def picture(seed: int, height: int = 40, width: int = 48, channel: int = 0) -> NDArray[np.uint8]:
    """Draw a noisy picture (height, width, 3) in which one channel is brighter."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 120, (6, 6, 3), dtype=np.uint8)
    coarse[:, :, channel] += 100
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encode(image: Image.Image | NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    """Return an image as the bytes of a file."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def draw_pictures(root: Path, per_class: Mapping[str, int] | None = None) -> Pictures:
    """Write `per_class` pictures of every class, by split, in sizes that differ."""
    rows: list[tuple[str, str, str, str]] = []
    for split, count in (per_class or {"train": 4, "val": 3, "test": 2}).items():
        for channel, label in enumerate(reversed(LABELS)):
            for number in range(count):
                seed = len(rows)
                data = encode(picture(seed, 34 + 3 * (seed % 5), 50 - 2 * (seed % 4), channel))
                path = f"{split}/{label}/{number}.png"
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(data)
                rows.append((path, label, split, hashlib.sha256(data).hexdigest()))
    return Pictures(root, pd.DataFrame(rows, columns=["path", "label", "split", "sha256"]))


def build(
    name: str, side: int = PREPROCESSING.side, classes: int = len(LABELS), keep: int | None = None
) -> Network:
    """Return a network with random weights, the same every time, and a head that is not zero."""
    return copy.deepcopy(built(name, side, classes, keep))


@cache
def built(name: str, side: int, classes: int, keep: int | None) -> Network:
    """Build it, once."""
    torch.manual_seed(0)
    network = image_network(name, classes, side, readout=None if keep is None else Readout.top(keep))
    nn.init.normal_(network.head.weight, std=0.1)
    return network


@cache
def exported(temperature: float, name: str = "test_resnet") -> bytes:
    """Return a network, `build(name)`, as an ONNX file: exported by the first worker of a test run that asks.

    The exporter takes seconds, and gives the same bytes every time, which test_onnx_export holds.
    """
    from steps.core.export.onnx_export import export_onnx

    if (shared := os.environ.get("TESTS_SHARE")) is None:  # a bench
        return export_onnx(build(name), graph_of(), temperature)
    file = Path(shared, f"{name}-{temperature}.onnx")
    if not file.is_file():
        write_file(file, export_onnx(build(name), graph_of(), temperature))
    return file.read_bytes()


IMAGE = modality("image")
KINDS = Known()


def graph_of(preprocessing: Preprocessing = PREPROCESSING) -> InputGraph:
    """Return what stands before a network in an exported file."""
    return IMAGE.input_graph(preprocessing)


def raw(data: bytes, preprocessing: Preprocessing = PREPROCESSING) -> NDArray[np.uint8]:
    """Return an image file as an exported file takes it."""
    return graph_of(preprocessing).encode(preprocessing.decode(data))


def described(source: Data, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the digests and headers of its images."""
    return describe_samples(source, table, IMAGE.describe, IMAGE.blank_facts)


def image_encoder(name: str, weights: Path, preprocessing: Preprocessing = PREPROCESSING) -> Encoder:
    """Return a pretrained backbone for images."""
    return Encoder(IMAGE, name, weights, preprocessing)


def image_network(
    name: str, classes: int, side: int, weights: str | Path | None = None, readout: Readout | None = None
) -> Network:
    """Build a timm backbone for square images under a head of zeros."""
    preprocessing = replace(PREPROCESSING, side=side)
    return build_network(IMAGE, name, preprocessing, classes, Path(weights) if weights else None, readout)


def image_settings(**changes: Any) -> Settings:
    """Return the settings of images that the tests use."""
    settings: dict[str, Any] = {
        "size": 32,
        "max_auto_size": 160,
        "formats": ["PNG", "JPEG", "GIF", "BMP"],
        "min_side": 8,
        "max_side": 4000,
        "min_spread": 0.01,
        "augmentation": AUGMENTATION.model_dump(),
        "oversampling": None,
        **changes,
    }
    return Settings(**settings)


def modalities(**changes: Any) -> ModalitySettings:
    """Return the section `modality` of params.yaml, with changes for images."""
    text = TextSettings(
        max_length="auto", max_auto_length=64, token_dropout=0.0, max_characters=10_000, min_words=1
    )
    return ModalitySettings(image=image_settings(**changes), text=text)


def samples_of(table: pd.DataFrame) -> list[Sample]:
    """Return what is needed to look at the rows of a table."""
    return [Sample(path, sha256) for path, sha256 in zip(table["path"], table["sha256"], strict=True)]


def extractor(network: Network, boundary: int | None, folder: Path, **changes: Any) -> Extractor:
    """Return an extractor with small settings."""
    settings: dict[str, Any] = {
        "views": Views(PREPROCESSING, AUGMENTATION, 0),
        "dtype": "float32",
        "micro_batch": MICRO_BATCH,
        "weights_sha256": "0" * 64,
        **changes,
    }
    return Extractor(network, boundary, folder=folder, **settings)


def cached(pictures: Pictures, network: Network, boundary: int, folder: Path, **changes: Any) -> CachedSource:
    """Return a source that reads from a cache, in shards of five, built for it."""
    worker = extractor(network, boundary, folder, **changes)
    index, shards, parts = pictures.index(), {}, []
    for first in range(0, len(index), 5):
        part = index.iloc[first : first + 5]
        name = f"shard-{first}"
        shards[name] = worker.shard(pictures.folder(), samples_of(part), VIEWS)
        parts.append(part.assign(shard=name, row=range(len(part))))
    table = pd.concat(parts, ignore_index=True)
    return CachedSource(table, shards, "z" if boundary == len(network.stages) else "h", boundary)


def uncached(pictures: Pictures, network: Network, boundary: int) -> RecomputedSource:
    """Return a source that computes the same values anew from the pixels."""
    views = Views(PREPROCESSING, AUGMENTATION, 0)
    return RecomputedSource(pictures.index(), pictures.folder(), views, boundary, network, MICRO_BATCH)


def batches(source: Source, index: pd.DataFrame, batch_size: int = 5, seed: int = 0) -> Batches:
    """Walk through a source."""
    return Batches(source, index, VIEWS, batch_size, seed)


def same_state(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Say whether two states are equal bit for bit."""
    return set(one) == set(other) and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def split_logits(labels: ArrayLike, classes: int, right: ArrayLike, margin: float) -> NDArray[np.float64]:
    """Return logits that answer `right` where asked to, and the next class elsewhere."""
    truth = np.asarray(labels)
    answers = np.where(np.asarray(right), truth, (truth + 1) % classes)
    logits = np.zeros((len(truth), classes))
    logits[np.arange(len(truth)), answers] = margin
    return logits


@dataclass(frozen=True)
class BrightestChannelModel:
    """A classifier that answers with the brightest channel, which is right, for `known` labels only."""

    known: tuple[str, ...] = tuple(LABELS)
    labels: tuple[str, ...] = tuple(LABELS)
    temperature: float = 1.0
    margin: float = 4.0

    @property
    def meta(self) -> dict[str, Any]:
        """Labels and temperature."""
        return {"modality": "image", "labels": list(self.labels), "temperature": self.temperature}

    @property
    def preprocessing(self) -> Preprocessing:
        """The usual one, with the same mean in every channel."""
        return Preprocessing(32, 36, "bicubic", (0.5,) * 3, (0.25,) * 3)

    def network(self) -> Network:
        """A network without stages: pooling averages the channels, the head compares them."""
        network = Network([], 3, len(LABELS), layout="channels_first")
        weight = torch.zeros(len(LABELS), 3)
        for channel, label in enumerate(reversed(LABELS)):
            weight[LABELS.index(label), channel] = self.margin if label in self.known else 0.0
        with torch.no_grad():
            network.head.weight.copy_(weight)
            network.head.bias.copy_(torch.tensor([0.0 if n in self.known else -9.0 for n in LABELS]))
        return network
