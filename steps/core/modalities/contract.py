"""What a modality gives: the one seam between raw data and everything else.

A modality is a package with the modules `settings` (see `steps.core.modalities.settings`) and `modality`,
which has the attributes and functions of `Modality` below. A *sample* is what a file or a row of a table
decodes to, and only the modality knows its type; a *view* of it is a tensor; a batch of views enters the
network at boundary 0.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from steps.core.backbones.network import Backbone, Network
from steps.core.data.files import Source
from steps.core.modalities.parts import InputGraph, Moments, Preprocessing, Scan, Shortcut, Views

Corruption = Callable[[Tensor, float, torch.Generator], Tensor]
"""Takes a view, a strength and a source of noise; returns the view made worse."""
Copies = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Pairs of rows (pairs, 2), first below second, and how alike each is (pairs,), 1 being the same."""


class Modality(Protocol):
    """The module `modality` of a modality's package."""

    __name__: str
    name: str
    endings: tuple[str, ...]
    """Of files that are samples, in lower case; none where samples are rows of a table."""
    unread_endings: Mapping[str, str]
    """Of files that are samples too and are not read here, in lower case: what to do with them."""
    blank_facts: Mapping[str, Any]
    """Columns of the manifest that `describe` fills, and what they hold where it cannot."""
    default_backbone: str
    """What `backbone.name: auto` is; its weights are packaged."""

    def corruptions(self, preprocessing: Any) -> Mapping[str, tuple[Corruption, tuple[float, float, float]]]:
        """Return by name how a view is made worse, and three strengths."""

    def columns_of(self, table: pd.DataFrame) -> list[str]:
        """Return the columns of a table that are a sample each row; none where samples are files."""

    def fits_hub(self, features: Mapping[str, Any]) -> bool:
        """Say whether a hub data set with these features is of this modality."""

    def write_hub_split(self, rows: Any, folder: Path) -> None:
        """Write a `datasets.Dataset` below a folder in one of the layouts that are read."""

    def describe(self, data: bytes) -> dict[str, Any]:
        """Return the facts of a sample that are known without decoding all of it.

        Raises:
            DataError: The bytes are no such sample.
        """

    def refuse(self, table: pd.DataFrame, settings: Any) -> list[str | None]:
        """Say of every row of a manifest why its sample is not to be decoded at all; None where it may be."""

    def scan(self, source: Source, table: pd.DataFrame, audited: int) -> Scan:
        """Decode every sample and keep a fingerprint; of the first `audited` also what shortcuts need."""

    def check(self, table: pd.DataFrame, scan: Any, settings: Any) -> list[dict[str, Any]]:
        """Return findings about single samples; see `steps.core.data.findings`."""

    def comparable_rows(self, scan: Any, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows that have something to compare."""

    def near_copies(
        self, scan: Any, rows: NDArray[np.int64], threshold: float, near_copy_margin: float
    ) -> Copies:
        """Return near copies among some of the rows, ascending; the work per row is bounded."""

    def variants(self, scan: Any, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say of near copies (pairs, 2) whether they differ in what their labels may be about (pairs,)."""

    def prints(self, source: Source, paths: Sequence[str]) -> NDArray[np.uint8]:
        """Return a small print of every sample, by which it is found again (samples, bytes)."""

    def print_copies(
        self, theirs: NDArray[np.uint8], mine: NDArray[np.uint8], threshold: float, near_copy_margin: float
    ) -> NDArray[np.int64]:
        """Return the places among `mine` of prints that are near copies of one of `theirs`."""

    def shortcuts(self, table: pd.DataFrame, scan: Any, rows: NDArray[np.int64]) -> list[Shortcut]:
        """Return what beside the content the class might be told from, of some of the rows."""

    def pretrained(self, backbone: str, settings: Any, table: pd.DataFrame, weights: Path) -> Preprocessing:
        """Return the preprocessing that a backbone was pretrained with, for samples like those of a table.

        The table has the columns of `describe`; a setting that is `auto` is resolved from them. `weights` is
        what `find_weights` returned, which may bring more than tensors.

        Raises:
            BackboneError: The backbone is not known.
        """

    def preprocessing(self, fields: Mapping[str, Any]) -> Preprocessing:
        """Undo `Preprocessing.to_dict`."""

    def measure(self, source: Source, paths: Sequence[str], preprocessing: Any) -> Moments:
        """Stream the deterministic views of all `paths`."""

    def normalisations(self, pretrained: Any, moments: Any) -> dict[str, Preprocessing]:
        """Return the ways to normalise, the pretrained one first, under `pretrained`."""

    def undecided(self, settings: Any) -> list[str]:
        """Return the symmetries that the settings leave to a trial, by name; none where there are none."""

    def symmetric_views(self, preprocessing: Any, symmetry: str) -> Views:
        """Return views of which the only one, 0, is the deterministic one under a symmetry."""

    def decided(self, settings: Any, kept: Mapping[str, bool]) -> Any:
        """Return the settings of which nothing is undecided: training uses a symmetry if it is kept."""

    def views(self, preprocessing: Any, settings: Any, seed: int) -> Views:
        """Return the views of a training, of settings that nothing is undecided of."""

    def deterministic_views(self, preprocessing: Any) -> Views:
        """Return views of which only the deterministic one is used."""

    def views_of(self, meta: Mapping[str, Any]) -> Views:
        """Undo `Views.describe`."""

    def load_backbone(self, name: str, preprocessing: Any, weights: str | None) -> Backbone:
        """Build a backbone, cut into stages.

        Raises:
            BackboneError: The name is not known, or the weights are of another architecture.
        """

    def find_weights(self, name: str, source: str, cache: Path, key: str = "backbone.weights") -> Path:
        """Return a safetensors file; `key` of params.yaml is where `source` stands.

        Raises:
            BackboneError: The weights cannot be had.
        """

    def licence(self, backbone: str) -> str:
        """Return the licence of a backbone's pretrained weights."""

    control: str | None
    """What a model without pretraining is that the candidate is held against; None where there is none."""

    def control_answers(
        self,
        source: Source,
        train: Sequence[str],
        labels: NDArray[np.int64],
        asked: Sequence[str],
        seed: int,
    ) -> NDArray[np.int64] | None:
        """Fit the control on train, paths with their classes (train,); return the classes of those `asked`.

        None where there is too little to fit it on.
        """

    def slice_facts(self, sample: Any, view: Tensor) -> dict[str, float]:
        """Return numbers by which the test set is divided to find where a model is weak."""

    def attribute(self, network: Network, preprocessing: Any, view: Tensor) -> Tensor:
        """Return how much each place of a view speaks for the network's answer, 0 to 1."""

    def show(self, data: bytes, alt: str = "") -> str:
        """Return a sample as HTML for a report."""

    def show_attribution(self, data: bytes, preprocessing: Any, heat: Tensor) -> str:
        """Return a sample's view with what `attribute` returned, as HTML for a report."""

    def input_graph(self, preprocessing: Any) -> InputGraph:
        """Return what stands before the network in an exported file."""

    def from_request(self, value: Any) -> bytes:
        """Return the bytes of a sample that a request holds.

        Raises:
            DataError: It holds none.
        """
