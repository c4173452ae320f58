"""Fill the frozen-prefix cache: one decode, K views, one forward; a shard at a time.

A shard's file name is a hash of all that its content depends on, so a shard that exists is right,
and after a kill at most one shard is computed again. Memory does not grow with the data set.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

import PIL
import timm
import torch
import torchvision
from safetensors import SafetensorError, safe_open
from torch import Tensor

from steps.core.backbones.network import Network, pool
from steps.core.backbones.processes import describe_device
from steps.core.data.files import Folder, prefetched
from steps.core.modalities.image.pixels import (
    Preprocessing,
    normalise,
    plain_view,
    read_image,
    seeded_view,
    view_seed,
)
from steps.core.system.code import code_digest
from steps.core.system.config import Augmentation
from steps.core.system.errors import BackboneError
from steps.core.system.sealed import seal, unseal
from steps.core.system.storage import write_file

FORMAT = 4
COMPUTES = ("steps/core/modalities/", "steps/core/backbones/", "steps/core/features/")
DTYPES = {"float16": torch.float16, "float32": torch.float32}
T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """What is needed to look at one sample."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Views:
    """What a sample is looked at through: the deterministic view and `count` seeded ones."""

    look: Preprocessing
    ranges: Augmentation
    seed: int
    oversampling: float | None = None
    """Decoded pixels per pixel of the smallest crop's side, at least, where a JPEG can be decoded
    smaller than it is; None decodes every pixel."""

    def read(self, data: bytes) -> Tensor:
        """Decode an image for its views: uint8 (3, height, width)."""
        if self.oversampling is None:
            return read_image(data)
        crop = self.look.side / math.sqrt(self.ranges.crop_area[0] or 1.0)
        return read_image(data, math.ceil(self.oversampling * max(self.look.resize, crop)))

    def of(self, image: Tensor, sample: Sample, count: int) -> Tensor:
        """Return uint8 (1 + count, 3, side, side)."""
        seeded = (self.one(image, sample, view) for view in range(1, count + 1))
        return torch.stack([plain_view(image, self.look), *seeded])

    def one(self, image: Tensor, sample: Sample, view: int) -> Tensor:
        """Return one view; 0 is the deterministic one."""
        if view == 0:
            return plain_view(image, self.look)
        seed = view_seed(self.seed, sample.sha256, view)
        return seeded_view(image, self.look, self.ranges, seed)


@dataclass(frozen=True)
class Extractor:
    """Computes shards of z and h with one network, boundary and precision."""

    network: Network
    boundary: int
    views: Views
    dtype: str
    micro_batch: int
    weights_sha256: str
    folder: Path

    def key(self, samples: Sequence[Sample], count: int) -> str:
        """Hash everything that a shard's bytes depend on."""
        depends = {
            "format": FORMAT,
            "samples": [sample.sha256 for sample in samples],
            "views": count,
            "seed": self.views.seed if count else None,
            "ranges": self.views.ranges.model_dump() if count else None,
            "look": self.views.look.to_dict(),
            "oversampling": self.views.oversampling,
            "crop_area": self.views.ranges.crop_area[0] if self.views.oversampling else None,
            "weights": self.weights_sha256,
            "boundary": self.boundary,
            "dtype": self.dtype,
            "micro_batch": self.micro_batch,
            "threads": torch.get_num_threads(),
            "device": describe_device(),
            "versions": [torch.__version__, torchvision.__version__, timm.__version__, PIL.__version__],
            "code": code_digest(__name__, *COMPUTES),
        }
        return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()

    def sizes(self) -> tuple[int, int]:
        """Return the bytes that are kept of every view, and of every sample beside its views."""
        side = self.views.look.side
        found = self.forward(torch.zeros(1, 3, side, side, dtype=torch.uint8), [True])
        per_sample = sum(x.nbytes for name, x in found.items() if name.startswith("stage"))
        return sum(x.nbytes for x in found.values()) - per_sample, per_sample

    def missing(self, samples: Sequence[Sample], count: int) -> bool:
        """Say whether a shard has yet to be computed."""
        return not readable(self.folder / self.name(samples, count))

    def name(self, samples: Sequence[Sample], count: int) -> str:
        """Return the file name of a shard."""
        return f"{self.key(samples, count)[:32]}.safetensors"

    def shard(self, data: Folder, samples: Sequence[Sample], count: int) -> Path:
        """Return the file of one shard, computed unless it is there already."""
        path = self.folder / self.name(samples, count)
        if unseal(path) is None:
            tensors = self.compute(data, samples, count)
            write_file(path, seal(tensors))
        return path

    def compute(self, data: Folder, samples: Sequence[Sample], count: int) -> dict[str, Tensor]:
        """Return the tensors of a shard.

        z (samples, 1 + count, features); h likewise, where the boundary is neither the pixels nor
        the top; and stage<i> (samples, channels), each stage's pooled output for the plain view.
        """

        def look(sample: Sample) -> Tensor:
            return self.views.of(self.views.read(data.read(sample.path)), sample, count)

        pixels = (view for views in prefetched(look, samples, 16) for view in views)
        plain = cycle([True, *[False] * count])
        outputs = [
            self.forward(torch.stack(batch), [next(plain) for _ in batch])
            for batch in batched(pixels, self.micro_batch)
        ]
        tensors = {name: torch.cat([part[name] for part in outputs]) for name in outputs[0]}
        per_view = {name: x for name, x in tensors.items() if not name.startswith("stage")}
        shaped = {name: x.view(len(samples), 1 + count, *x.shape[1:]) for name, x in per_view.items()}
        return {**tensors, **shaped}

    @torch.inference_mode()
    def forward(self, pixels: Tensor, plain: list[bool]) -> dict[str, Tensor]:
        """Return z and h of uint8 views (n <= micro_batch, 3, side, side), stages of the plain ones."""
        found = {}
        x = prefix(self.network, 0, pixels, self.views.look, self.micro_batch)
        rows = [row for row, is_plain in enumerate(plain) if is_plain]
        for number, stage in enumerate(self.network.stages):
            x = stage(x)
            found[f"stage{number}"] = pool(x[rows], self.network.channels_last)
            if number + 1 == self.boundary < len(self.network.stages):
                found["h"] = x[: len(pixels)]
        found["z"] = pool(x, self.network.channels_last)[: len(pixels)]
        return {name: self.narrow(x) for name, x in found.items()}

    def narrow(self, x: Tensor) -> Tensor:
        """Convert to the kept precision.

        Raises:
            BackboneError: A value is too large for it.
        """
        kept = x.to(DTYPES[self.dtype], memory_format=torch.contiguous_format).cpu()
        if not x.isfinite().all():
            raise BackboneError(
                "the backbone's features are not numbers: backbone.weights holds values that are not finite; "
                "take other weights"
            )
        if not kept.isfinite().all():
            raise BackboneError(
                f"the backbone's features reach {x.abs().max():.3g}, which {self.dtype} cannot hold: "
                "set cache_features.dtype to float32"
            )
        return kept


def prefix(network: Network, boundary: int, pixels: Tensor, look: Preprocessing, micro_batch: int) -> Tensor:
    """Take views to the boundary in a batch that is always full.

    The last bits of a convolution depend on the size of the batch, so a short batch is filled up
    with its first view: then a view's h depends on that view alone. The filling is returned too.
    """
    short = micro_batch - len(pixels)
    filled = torch.cat([pixels, pixels[:1].expand(short, -1, -1, -1)]) if short else pixels
    return network.run(normalise(filled.to(network.device), look), 0, boundary)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def readable(path: Path) -> bool:
    """Say whether a shard exists with an intact header and length; safetensors checks both."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (FileNotFoundError, SafetensorError):
        return False
