"""Batches of training data at one boundary of the network: from the cache, or computed anew.

Which samples, in which order, through which view, depends on the seed and the epoch alone, so both
sources give the same batches, and any epoch can be repeated by itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from steps.core.backbones.network import Network
from steps.core.backbones.processes import local_slice
from steps.core.backbones.ragged import in_batches_of_one_shape, stack_padded, unpack
from steps.core.data.files import Source as Data
from steps.core.data.files import map_in_threads
from steps.core.data.rows import open_source
from steps.core.features.extraction import Sample, in_batches, prefix
from steps.core.modalities.parts import Views
from steps.core.modalities.registry import views_of
from steps.core.tasks import targets


class Cache(Protocol):
    """The frozen-prefix cache as an artifact holds it."""

    @property
    def index_table(self) -> pd.DataFrame:
        """A row per sample."""

    @property
    def shards(self) -> dict[str, Path]:
        """Shard files by name."""

    @property
    def meta(self) -> dict[str, Any]:
        """Boundary, views, seed and preprocessing."""


class Batch(NamedTuple):
    """x at the boundary (n, ...), float32; y (n,) class numbers, or (n, classes) indicators."""

    x: Tensor
    y: Tensor
    remote_samples: int = 0
    """Samples of the same batch that other processes have."""

    @property
    def size(self) -> int:
        """Samples of the whole batch."""
        return len(self.y) + self.remote_samples

    def to(self, device: torch.device) -> "Batch":
        """Move the tensors."""
        return Batch(self.x.to(device), self.y.to(device), self.remote_samples)


class Source(Protocol):
    """Where the values at a boundary come from."""

    @property
    def start(self) -> int:
        """The boundary at which x enters the network."""

    def get(self, rows: list[int], views: list[int]) -> Tensor:
        """Return x of the given (row of the index, view) pairs."""


@dataclass(frozen=True)
class CachedSource:
    """Reads from memory-mapped shards: no decoding, no forward."""

    index: pd.DataFrame
    shards: dict[str, Path]
    name: str
    """`h`, or `z` where the boundary is the top."""
    start: int

    @cached_property
    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The shards' tensors; pages are read when they are touched."""
        found = {}
        for file, path in self.shards.items():
            with safe_open(path, framework="pt") as shard:
                kept = set(shard.keys()) & {self.name, "starts", "lengths"}
                found[file] = {name: shard.get_tensor(name) for name in kept}
        return found

    @cached_property
    def locations(self) -> list[tuple[str, int]]:
        """Shard file and row in it, by row of the index."""
        return list(zip(self.index["shard"], self.index["row"].astype(int), strict=True))

    def get(self, rows: list[int], views: list[int]) -> Tensor:
        """See `Source.get`."""
        locations = (self.locations[row] for row in rows)
        pairs = zip(locations, views, strict=True)
        return as_cached(stack_padded([self.one(file, row, view) for (file, row), view in pairs]).float())

    def one(self, file: str, row: int, view: int) -> Tensor:
        """Return x of one sample."""
        kept = self.tensors[file]
        if "starts" not in kept:
            return kept[self.name][row, view]
        return unpack(kept[self.name], int(kept["starts"][row, view]), int(kept["lengths"][row, view]))


def as_cached(x: Tensor) -> Tensor:
    """Return maps with their channels last in memory: the last bits of a convolution depend on that."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


@dataclass(frozen=True)
class VectorSource:
    """What a head reads of every sample's deterministic view, in memory."""

    vectors: Tensor
    """Shape (rows of the index, features), float32."""
    start: int

    def get(self, rows: list[int], views: list[int]) -> Tensor:
        """See `Source.get`."""
        return self.vectors[rows]


@dataclass(frozen=True)
class RecomputedSource:
    """Decodes the samples again, for full fine-tuning and as the proof of the cache.

    With a network, x is what the network's frozen prefix makes of the views, in micro-batches.
    """

    index: pd.DataFrame
    data: Data
    views: Views
    start: int = 0
    network: Network | None = None
    micro_batch: int = 8

    @cached_property
    def samples(self) -> list[Sample]:
        """What to decode, by row of the index."""
        pairs = zip(self.index["path"], self.index["sha256"], strict=True)
        return [Sample(path, sha256) for path, sha256 in pairs]

    def view(self, pair: tuple[int, int]) -> Tensor:
        """Decode one sample and return one view of it."""
        sample = self.samples[pair[0]]
        return self.views.view(self.views.read(self.data.read(sample.path)), sample.sha256, pair[1])

    def get(self, rows: list[int], views: list[int]) -> Tensor:
        """See `Source.get`."""
        seen = list(map_in_threads(self.view, zip(rows, views, strict=True), 32))
        if self.network is None:
            return self.views.preprocessing.batch(seen, torch.device("cpu"))
        found: dict[int, Tensor] = {}
        with torch.inference_mode():
            for numbers, part in in_batches_of_one_shape(seen, self.micro_batch):
                found |= dict(zip(numbers, self.to_boundary(part), strict=True))
        return as_cached(stack_padded([found[number] for number in range(len(seen))]))

    def to_boundary(self, views: list[Tensor]) -> Tensor:
        """Take views to the boundary."""
        assert self.network is not None
        h = prefix(self.network, self.start, views, self.views.preprocessing, self.micro_batch)
        return h[: len(views)]


LENGTH = "length"
"""Column of an index by which the time of a sample is known, where samples are of unequal length."""
SORTED_BATCHES = 16  # that samples of like length are put together in


@dataclass(frozen=True)
class Batches:
    """A source, the labels and splits of its rows, and how to walk through them."""

    source: Source
    index: pd.DataFrame
    views: int
    """Seeded views per training sample; without any, training sees the deterministic one."""
    batch_size: int
    seed: int

    @cached_property
    def labels(self) -> Tensor:
        """Class numbers (rows,), or indicators (rows, classes)."""
        return torch.from_numpy(targets.stack(self.index["label"]))

    def rows(self, split: str) -> list[int]:
        """Return the rows of a split."""
        return [int(row) for row in (self.index["split"] == split).to_numpy().nonzero()[0]]

    def steps(self) -> int:
        """Return the optimiser steps of one epoch; a last batch of one is left out."""
        count = len(self.rows("train"))
        full, rest = divmod(count, self.batch_size)
        return full * (self.batch_size > 1) + (rest > 1)

    def train(self, epoch: int) -> Iterator[Batch]:
        """Yield the epoch's batches: shuffled, each sample once, through a view drawn anew.

        A last batch of one sample is left out: BatchNorm has no variance of one. With several
        processes, each reads its own part of every batch.
        """
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        rows = torch.tensor(self.rows("train"))
        rows = self.of_like_length(rows[torch.randperm(len(rows), generator=generator)], generator)
        low, high = (1, self.views + 1) if self.views else (0, 1)
        views = torch.randint(low, high, (len(rows),), generator=generator)
        for part, seen in zip(*(torch.split(t, self.batch_size) for t in (rows, views)), strict=True):
            if len(part) > 1:
                mine = local_slice(len(part))
                x = self.source.get(part[mine].tolist(), seen[mine].tolist())
                yield Batch(x, self.labels[part[mine]], len(part) - len(x))

    def of_like_length(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return shuffled rows so that each batch has samples of like length: all cost what the longest does.

        Windows of SORTED_BATCHES batches are sorted, then the batches are shuffled.
        """
        if LENGTH not in self.index:
            return rows
        lengths = torch.tensor(self.index[LENGTH].to_numpy(dtype=np.int64))
        windows = torch.split(rows, SORTED_BATCHES * self.batch_size)
        together = torch.cat([part[lengths[part].argsort(stable=True)] for part in windows])
        *full, last = torch.split(together, self.batch_size)
        order = torch.randperm(len(full), generator=generator)
        return torch.cat([*(full[number] for number in order.tolist()), last])

    def deterministic(self, split: str, first: int = 0, every: int = 1) -> Iterator[Batch]:
        """Yield a split's batches in order, through the deterministic view; all, or some by number."""
        for part in islice(in_batches(self.rows(split), self.batch_size), first, None, every):
            yield Batch(self.source.get(part, [0] * len(part)), self.labels[part])


def batches_of_vectors(cache: Cache, vectors: NDArray[np.float64], top: int, size: int, seed: int) -> Batches:
    """Return batches of what a head reads (rows of the index, features), at the boundary `top` below it."""
    source = VectorSource(torch.from_numpy(vectors.astype(np.float32)), top)
    return Batches(source, cache.index_table, 0, size, seed)


def open_batches(cache: Cache, boundary: int, batch_size: int, seed: int, scratch: Path) -> Batches:
    """Return batches at `boundary`: from the prefix where that was kept, else from the samples."""
    meta = cache.meta
    source: Source
    if boundary == meta["boundary"] and boundary > 0:
        name = "z" if boundary == meta["stages"] else "h"
        source = CachedSource(cache.index_table, cache.shards, name, boundary)
    else:
        data = open_source(meta["root"], scratch, cache.index_table)
        source = RecomputedSource(cache.index_table, data, views_of(meta))
    return Batches(source, cache.index_table, meta["views"], batch_size, seed)
