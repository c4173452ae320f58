"""What a modality gives: the one seam between raw data and everything else.

A modality is a package with the modules `settings` (see `steps.core.modalities.settings`) and `modality`,
which has the attributes and functions of `Modality` below. A *sample* is what a file or a row of a table
decodes to, and only the modality knows its type; a *view* of it is a tensor; a batch of views enters the
network at boundary 0.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steps.core.backbones.network import Backbone, Network
from steps.core.data.files import Source

Corruption = Callable[[Tensor, float, torch.Generator], Tensor]
"""Takes a view, a strength and a source of noise; returns the view made worse."""
Copies = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Pairs of rows (pairs, 2), first below second, and how alike each is (pairs,), 1 being the same."""


class Preprocessing(Protocol):
    """How a sample becomes a network's input; frozen, hashable, and part of every model's metadata."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain json types, of which the modality makes it again."""
        ...

    def example(self) -> Tensor:
        """Return a view of zeros: the shape of what enters."""
        ...

    def decode(self, data: bytes) -> Any:
        """Decode one sample.

        Raises:
            DataError: The bytes are no such sample.
        """
        ...

    def view(self, sample: Any) -> Tensor:
        """Return the deterministic view."""
        ...

    def batch(self, views: Sequence[Tensor], device: torch.device) -> Tensor:
        """Return what enters the network at boundary 0 (n, ...), float32."""
        ...


class Views(Protocol):
    """What training sees of a sample: view 0 is the deterministic one, every other follows from a seed."""

    @property
    def preprocessing(self) -> Preprocessing:
        """What all views are made for."""
        ...

    def read(self, data: bytes) -> Any:
        """Decode a sample for its views; it may keep less of it than `Preprocessing.decode` does."""
        ...

    def one(self, sample: Any, sha256: str, number: int) -> Tensor:
        """Return a view that depends on the sample, its content's digest, the number and a seed alone."""
        ...

    def key(self, count: int) -> Any:
        """Return, as json types, all that the deterministic view and `count` others depend on."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a cache's metadata holds of the views; `Modality.views_of` makes them again."""
        ...


class Scan(Protocol):
    """What one look at every sample has found, a row per row of the manifest."""

    @property
    def facts(self) -> pd.DataFrame:
        """At least `error`: None, or why the sample cannot be used."""
        ...

    @property
    def audited(self) -> int:
        """How many of the first rows have a fingerprint too."""
        ...

    def only(self, rows: NDArray[np.int64]) -> Self:
        """Return some of the rows, in ascending order."""
        ...


class Moments(Protocol):
    """Exact statistics of the train split, per channel."""

    @property
    def count(self) -> int:
        """Values of every channel."""
        ...

    def mean(self) -> list[float]:
        """Return the mean of every channel."""
        ...

    def std(self) -> list[float]:
        """Return the population standard deviation of every channel."""
        ...


class Shortcut(Protocol):
    """Something beside the content by which a class might be told."""

    @property
    def what(self) -> str:
        """What it is: "the class cannot be told from ..."."""
        ...

    @property
    def remedy(self) -> str:
        """What to do where the class can be told from it."""
        ...

    @property
    def x(self) -> NDArray[np.float64]:
        """Features (samples, features)."""
        ...


class InputGraph(Protocol):
    """What stands before the network in an exported file: raw input to boundary 0."""

    name: str
    """Of the file's input."""

    def module(self) -> nn.Module:
        """Return it as a module that can be exported."""
        ...

    def example(self) -> Tensor:
        """Return two raw inputs of an uneven size."""
        ...

    def free(self) -> dict[int, str]:
        """Return the axes beside the batch that differ from sample to sample, by number: their names."""
        ...

    def encode(self, sample: Any) -> NDArray[Any]:
        """Return a decoded sample as the file takes it, without the batch's axis."""
        ...

    @property
    def says(self) -> str:
        """What the model is given, in words."""
        ...

    @property
    def takes(self) -> str:
        """What the file takes: type and axes."""
        ...

    @property
    def request(self) -> str:
        """A request to the served model, as Python."""
        ...

    def size(self, data: bytes) -> list[int]:
        """Return what the time of one answer depends on: the raw input's sizes."""
        ...


class Modality(Protocol):
    """The module `modality` of a modality's package."""

    name: str
    endings: tuple[str, ...]
    """Of files that are samples, in lower case; none where samples are rows of a table."""
    blank_facts: Mapping[str, Any]
    """Columns of the manifest that `describe` fills, and what they hold where it cannot."""
    corruptions: Mapping[str, tuple[Corruption, tuple[float, float, float]]]
    """By name: how a view is made worse, and three strengths."""

    def columns_of(self, table: pd.DataFrame) -> list[str]:
        """Return the columns of a table that are a sample each row; none where samples are files."""
        ...

    def fits_hub(self, features: Mapping[str, Any]) -> bool:
        """Say whether a hub data set with these features is of this modality."""
        ...

    def write_hub_split(self, rows: Any, folder: Path) -> None:
        """Write a `datasets.Dataset` below a folder in one of the layouts that are read."""
        ...

    def describe(self, data: bytes) -> dict[str, Any]:
        """Return the facts of a sample that are known without decoding all of it.

        Raises:
            DataError: The bytes are no such sample.
        """
        ...

    def scan(self, source: Source, table: pd.DataFrame, audited: int) -> Scan:
        """Decode every sample; keep a fingerprint of the first `audited`."""
        ...

    def check(self, table: pd.DataFrame, scan: Any, settings: Any) -> list[dict[str, Any]]:
        """Return findings about single samples; see `steps.core.data.findings`."""
        ...

    def solid(self, scan: Any, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows that have something to compare."""
        ...

    def near_copies(
        self, scan: Any, z: NDArray[np.float16], rows: NDArray[np.int64], threshold: float, clearance: float
    ) -> Copies:
        """Return near copies among some of the audited rows; z (audited, features) are embeddings."""
        ...

    def shortcuts(self, table: pd.DataFrame, scan: Any, rows: NDArray[np.int64]) -> list[Shortcut]:
        """Return what beside the content the class might be told from, of some of the rows."""
        ...

    def pretrained(self, backbone: str, settings: Any) -> Preprocessing:
        """Return the preprocessing that a backbone was pretrained with.

        Raises:
            BackboneError: The backbone is not known.
        """
        ...

    def preprocessing(self, fields: Mapping[str, Any]) -> Preprocessing:
        """Undo `Preprocessing.to_dict`."""
        ...

    def measure(self, source: Source, paths: Sequence[str], preprocessing: Any) -> Moments:
        """Stream the deterministic views of all `paths`."""
        ...

    def normalisations(self, pretrained: Any, moments: Any) -> dict[str, Preprocessing]:
        """Return the ways to normalise, the pretrained one first, under `pretrained`."""
        ...

    def views(self, preprocessing: Any, settings: Any, seed: int) -> Views:
        """Return the views of a training."""
        ...

    def plain_views(self, preprocessing: Any) -> Views:
        """Return views of which only the deterministic one is used."""
        ...

    def views_of(self, meta: Mapping[str, Any]) -> Views:
        """Undo `Views.describe`."""
        ...

    def load_backbone(self, name: str, preprocessing: Any, weights: str | None) -> Backbone:
        """Build a backbone, cut into stages.

        Raises:
            BackboneError: The name is not known, or the weights are of another architecture.
        """
        ...

    def find_weights(self, name: str, source: str, cache: Path, key: str = "backbone.weights") -> Path:
        """Return a safetensors file; `key` of params.yaml is where `source` stands.

        Raises:
            BackboneError: The weights cannot be had.
        """
        ...

    def licence(self, backbone: str) -> str:
        """Return the licence of a backbone's pretrained weights."""
        ...

    def slice_facts(self, sample: Any, view: Tensor) -> dict[str, float]:
        """Return numbers by which the test set is divided to find where a model is weak."""
        ...

    def attribute(self, network: Network, preprocessing: Any, view: Tensor) -> Tensor:
        """Return how much each place of a view speaks for the network's answer, 0 to 1."""
        ...

    def show(self, data: bytes, alt: str = "") -> str:
        """Return a sample as HTML for a report."""
        ...

    def show_attribution(self, data: bytes, preprocessing: Any, heat: Tensor) -> str:
        """Return a sample's view with what `attribute` returned, as HTML for a report."""
        ...

    def input_graph(self, preprocessing: Any) -> InputGraph:
        """Return what stands before the network in an exported file."""
        ...

    def from_request(self, value: Any) -> bytes:
        """Return the bytes of a sample that a request holds.

        Raises:
            DataError: It holds none.
        """
        ...
