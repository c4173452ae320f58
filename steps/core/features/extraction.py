"""Fill the frozen-prefix cache: one decode, K views, one forward; a shard at a time.

A shard's file name is a hash of all that its content depends on, so a shard that exists is right,
and after a kill at most one shard is computed again. Memory does not grow with the data set.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from steps.core.backbones.network import Network, pool
from steps.core.backbones.processes import describe_device
from steps.core.data.files import Source, map_in_threads
from steps.core.modalities.parts import Preprocessing, Views
from steps.core.system.checksummed import load_checked, with_checksum
from steps.core.system.code import code_digest
from steps.core.system.errors import BackboneError
from steps.core.system.storage import write_file

FORMAT = 4
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
            "count": count,
            "views": self.views.key(count),
            "weights": self.weights_sha256,
            "architecture": self.network.architecture(),
            "boundary": self.boundary,
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

    def sizes(self) -> tuple[int, int]:
        """Return the bytes that are kept of every view, and of every sample beside its views."""
        found = self.forward([self.views.preprocessing.example()], [True])
        per_sample = sum(x.nbytes for name, x in found.items() if name.startswith("stage"))
        return sum(x.nbytes for x in found.values()) - per_sample, per_sample

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
        """Return the tensors of a shard.

        z (samples, 1 + count, features); h likewise, where the boundary is neither the input nor
        the top; and stage<i> (samples, channels), each stage's pooled output for the plain view.
        """

        def views_of(sample: Sample) -> list[Tensor]:
            decoded = self.views.read(data.read(sample.path))
            return [self.views.view(decoded, sample.sha256, number) for number in range(1 + count)]

        views = (view for found in map_in_threads(views_of, samples, 16) for view in found)
        plain = cycle([True, *[False] * count])
        outputs = [
            self.forward(batch, [next(plain) for _ in batch]) for batch in in_batches(views, self.micro_batch)
        ]
        tensors = {name: torch.cat([part[name] for part in outputs]) for name in outputs[0]}
        per_view = {name: x for name, x in tensors.items() if not name.startswith("stage")}
        shaped = {name: x.view(len(samples), 1 + count, *x.shape[1:]) for name, x in per_view.items()}
        return {**tensors, **shaped}

    @torch.inference_mode()
    def forward(self, views: list[Tensor], plain: list[bool]) -> dict[str, Tensor]:
        """Return z and h of at most `micro_batch` views, and all stages of the plain ones."""
        found = {}
        x = prefix(self.network, 0, views, self.views.preprocessing, self.micro_batch)
        rows = [row for row, is_plain in enumerate(plain) if is_plain]
        for number, stage in enumerate(self.network.stages):
            x = stage(x)
            found[f"stage{number}"] = pool(x[rows], self.network.channels_last)
            if number + 1 == self.boundary < len(self.network.stages):
                found["h"] = x[: len(views)]
        found["z"] = pool(x, self.network.channels_last)[: len(views)]
        return {name: self.to_stored_dtype(x) for name, x in found.items()}

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
    """Take views to the boundary in a batch that is always full.

    The last bits of a convolution depend on the size of the batch, so a short batch is filled up
    with its first view: then a view's h depends on that view alone. The filling is returned too.
    """
    filled = [*views, *[views[0]] * (micro_batch - len(views))]
    return network.run(preprocessing.batch(filled, network.device), 0, boundary)


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
