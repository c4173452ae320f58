"""What a modality's functions take and return, as the other rooms see it; see `contract`."""

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Preprocessing(Protocol):
    """How a sample becomes a network's input; frozen, hashable, and part of every model's metadata."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain json types, of which the modality makes it again."""

    def example(self) -> Tensor:
        """Return a view of zeros: the shape of what enters."""

    def decode(self, data: bytes) -> Any:
        """Decode one sample.

        Raises:
            DataError: The bytes are no such sample.
        """

    def view(self, sample: Any) -> Tensor:
        """Return the deterministic view."""

    def batch(self, views: Sequence[Tensor], device: torch.device) -> Tensor:
        """Return what enters the network at boundary 0 (n, ...): float32, or whole numbers."""


class Views(Protocol):
    """What training sees of a sample: view 0 is the deterministic one, every other follows from a seed."""

    @property
    def preprocessing(self) -> Preprocessing:
        """What all views are made for."""

    @property
    def seeded(self) -> bool:
        """Whether other views than 0 differ from it."""

    def read(self, data: bytes) -> Any:
        """Decode a sample for its views; it may keep less of it than `Preprocessing.decode` does."""

    def view(self, sample: Any, sha256: str, number: int) -> Tensor:
        """Return a view that depends on the sample, its content's digest, the number and a seed alone."""

    def key(self, count: int) -> Any:
        """Return, as json types, all that the deterministic view and `count` others depend on."""

    def describe(self) -> dict[str, Any]:
        """Return what a cache's metadata holds of the views; `Modality.views_of` makes them again."""


class Scan(Protocol):
    """What one look at every sample has found, a row per row of the manifest."""

    @property
    def facts(self) -> pd.DataFrame:
        """At least `error`: None, or why the sample cannot be used."""

    @property
    def audited(self) -> int:
        """How many of the first rows have what shortcuts need, too."""

    def select(self, rows: NDArray[np.int64]) -> Self:
        """Return some of the rows, in ascending order."""


class Moments(Protocol):
    """Exact statistics of the train split, per channel."""

    @property
    def count(self) -> int:
        """Values of every channel."""

    def mean(self) -> list[float]:
        """Return the mean of every channel."""

    def std(self) -> list[float]:
        """Return the population standard deviation of every channel."""


class Shortcut(Protocol):
    """Something beside the content by which a class might be told."""

    @property
    def what(self) -> str:
        """What it is: "the class cannot be told from ..."."""

    @property
    def remedy(self) -> str:
        """What to do where the class can be told from it."""

    @property
    def x(self) -> NDArray[np.float64]:
        """Features (samples, features)."""


class InputGraph(Protocol):
    """What stands before the network in an exported file: raw input to boundary 0."""

    name: str
    """Of the file's input."""

    def module(self) -> nn.Module:
        """Return it as a module that can be exported."""

    def example(self) -> Tensor:
        """Return two raw inputs of an uneven size."""

    def dynamic_axes(self) -> dict[int, str]:
        """Return the axes beside the batch that differ from sample to sample, by number: their names."""

    def encode(self, sample: Any) -> NDArray[Any]:
        """Return a decoded sample as the file takes it, without the batch's axis."""

    @property
    def description(self) -> str:
        """What the model is given, in words."""

    @property
    def input_format(self) -> str:
        """What the file takes: type and axes."""

    @property
    def request(self) -> str:
        """A request to the served model, as Python."""

    def size(self, data: bytes) -> list[int]:
        """Return what the time of one answer depends on: the raw input's sizes."""
