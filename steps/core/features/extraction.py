"""Fill the caches of frozen stages: one decode, K views, one forward; a shard at a time.

A shard's file name is a hash of all that its content depends on, so a shard that exists is right,
and after a kill at most one shard is computed again. Memory does not grow with the data set.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from steps.core.backbones.network import Network
from steps.core.backbones.processes import describe_device
from steps.core.backbones.ragged import in_batches_of_one_shape, in_order, pack, samples_together
from steps.core.backbones.readout import deviation, pool
from steps.core.data.files import Source, map_in_threads
from steps.core.modalities.parts import Preprocessing, Views
from steps.core.system.checksummed import load_checked, with_checksum
from steps.core.system.code import code_digest
from steps.core.system.errors import BackboneError
from steps.core.system.storage import write_file

FORMAT = 5
VERSIONS = ("torch", "torchvision", "timm", "transformers", "pillow", "numpy")
DTYPES = {"float16": torch.float16, "float32": torch.float32}
T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """What is needed to look at one sample."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Extractor:
    """Computes shards with one network and precision: all stages' outputs, or what enters at a boundary."""

    network: Network
    boundary: int | None
    """Where h is taken, or z at the top; None: the pooled outputs of all stages."""
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
            "count": count,
            "views": self.views.key(count),
            "weights": self.weights_sha256,
            "architecture": self.network.architecture(),
            "boundary": self.boundary,
            "readout": self.network.readout.to_dict() if self.boundary == len(self.network.stages) else None,
            "dtype": self.dtype,
            "micro_batch": self.micro_batch,
            "threads": torch.get_num_threads(),
            "device": describe_device(),
            "versions": [metadata.version(name) for name in VERSIONS],
            "code": code_digest(*self.modules, without="steps/core/system/"),
        }
        return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()

    @property
    def modules(self) -> list[str]:
        """The modules that a shard's bytes are computed by."""
        views = self.views
        return sorted({__name__, type(views).__module__, type(views.preprocessing).__module__})

    def bytes_per_view(self) -> int:
        """Return the bytes that are kept of every view."""
        return sum(x.nbytes for x in self.forward([self.views.preprocessing.example()]).values())

    def missing(self, samples: Sequence[Sample], count: int) -> bool:
        """Say whether a shard has yet to be computed."""
        return not has_valid_header(self.folder / self.name(samples, count))

    def name(self, samples: Sequence[Sample], count: int) -> str:
        """Return the file name of a shard."""
        return f"{self.key(samples, count)[:32]}.safetensors"

    def shard(self, data: Source, samples: Sequence[Sample], count: int) -> Path:
        """Return the file of one shard, computed unless it is there already."""
        path = self.folder / self.name(samples, count)
        if load_checked(path) is None:
            tensors = self.compute(data, samples, count)
            write_file(path, with_checksum(tensors))
        return path

    def compute(self, data: Source, samples: Sequence[Sample], count: int) -> dict[str, Tensor]:
        """Return the tensors of a shard, each (samples, 1 + count, ...): see `forward`.

        Where samples are of unequal length, what is kept at a boundary is packed; see `ragged.pack`.
        """

        def views_of(sample: Sample) -> list[Tensor]:
            decoded = self.views.read(data.read(sample.path))
            return [self.views.view(decoded, sample.sha256, number) for number in range(1 + count)]

        views = (view for found in map_in_threads(views_of, samples, 16) for view in found)
        numbers: list[int] = []
        outputs = []
        for some, batch in in_batches_of_one_shape(views, self.micro_batch):
            numbers += some
            outputs.append(self.forward(batch))
        if self.network.layout == "masked" and "h" in outputs[0]:
            rows = [row for part in outputs for row in part["h"]]
            packed = pack([row for _, row in sorted(zip(numbers, rows, strict=True), key=itemgetter(0))])
            places = {name: packed[name].view(len(samples), 1 + count) for name in ("starts", "lengths")}
            return packed | places
        tensors = {
            name: in_order(numbers, torch.cat([part[name] for part in outputs])) for name in outputs[0]
        }
        return {name: x.view(len(samples), 1 + count, *x.shape[1:]) for name, x in tensors.items()}

    @torch.inference_mode()
    def forward(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Return what is kept of at most `micro_batch` views, by name.

        At a boundary `h` (views, ...), at the top `z` (views, features). Else, of every stage i,
        `stage<i>` (views, channels), its mean over the places, and `deviation<i>` where it has places.
        """
        stop = 0 if self.boundary is None else min(self.boundary, len(self.network.stages))
        x = prefix(self.network, stop, views, self.views.preprocessing, self.micro_batch)
        found = {}
        if self.boundary is None:
            for number, stage in enumerate(self.network.stages):
                x = stage(x)
                found[f"stage{number}"] = pool(x, self.network.layout)
                if (spread := deviation(x, self.network.layout)) is not None:
                    found[f"deviation{number}"] = spread
        elif self.boundary == len(self.network.stages):
            found["z"] = x
        else:
            found["h"] = x
        return {name: self.to_stored_dtype(x[: len(views)]) for name, x in found.items()}

    def to_stored_dtype(self, x: Tensor) -> Tensor:
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


def prefix(
    network: Network, boundary: int, views: Sequence[Tensor], preprocessing: Preprocessing, micro_batch: int
) -> Tensor:
    """Take views to the boundary, at the top to z, in a batch that is always full.

    The last bits of a convolution depend on the size of the batch, so a short batch is filled up
    with its first view: then a view's h depends on that view alone. The filling is returned too.
    """
    filled = [*views, *[views[0]] * (samples_together(views[0], micro_batch) - len(views))]
    x = preprocessing.batch(filled, network.device)
    return network.embed(x) if boundary == len(network.stages) else network.run(x, 0, boundary)


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def has_valid_header(path: Path) -> bool:
    """Say whether a shard exists with an intact header and length; safetensors checks both."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (FileNotFoundError, SafetensorError):
        return False
