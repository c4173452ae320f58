"""Rows of numbers behind the seam: no file of the product knows that there are any.

Columns x0, x1, ... of a table are a sample. It proves what the seam promises: whatever an image needs and a
vector has not (borders, corruptions of a JPEG, maps of channels) stands behind it.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, fx, nn

from steps.core.backbones.network import Backbone, Network
from steps.core.backbones.stages import ROOT, Stage
from steps.core.data.files import Source
from steps.core.modalities.contract import Copies
from steps.core.system.errors import BackboneError, DataError
from tests.vectors.settings import Settings

name = "tests.vectors"
endings: tuple[str, ...] = ()
default_backbone = "two-layers"
control = None
unread_endings: Mapping[str, str] = {}
blank_facts: Mapping[str, Any] = {"width": 0}

WIDTH, HIDDEN = 4, 8
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Preprocessing:
    """Subtract `mean` and divide by `std`."""

    mean: tuple[float, ...] = (0.0,) * WIDTH
    std: tuple[float, ...] = (1.0,) * WIDTH

    def to_dict(self) -> dict[str, Any]:
        return {"mean": list(self.mean), "std": list(self.std)}

    def example(self) -> Tensor:
        return torch.zeros(WIDTH)

    def decode(self, data: bytes) -> Tensor:
        return decode(data)

    def view(self, sample: Tensor) -> Tensor:
        return sample

    def batch(self, views: Sequence[Tensor], device: torch.device) -> Tensor:
        return (torch.stack(list(views)).to(device) - torch.tensor(self.mean)) / torch.tensor(self.std)


@dataclass(frozen=True)
class Views:
    """The vector, and the vector with noise."""

    preprocessing: Preprocessing
    noise: float
    seed: int

    @property
    def seeded(self) -> bool:
        return self.noise > 0

    def read(self, data: bytes) -> Tensor:
        return decode(data)

    def view(self, sample: Tensor, sha256: str, number: int) -> Tensor:
        if number == 0:
            return sample
        digest = hashlib.sha256(f"{self.seed}/{sha256}/{number}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return sample + self.noise * torch.randn(WIDTH, generator=generator)

    def key(self, count: int) -> Any:
        return [self.preprocessing.to_dict(), self.noise, self.seed, count]

    def describe(self) -> dict[str, Any]:
        return {"preprocessing": self.preprocessing.to_dict(), "noise": self.noise, "seed": self.seed}


@dataclass(frozen=True)
class Scan:
    """What decoding has found."""

    facts: pd.DataFrame
    vectors: Floats

    @property
    def audited(self) -> int:
        return len(self.vectors)

    def select(self, rows: NDArray[np.int64]) -> "Scan":
        audited = rows[: np.searchsorted(rows, len(self.vectors))]
        return Scan(self.facts.iloc[rows].reset_index(drop=True), self.vectors[audited])


@dataclass
class Moments:
    """Statistics of every number."""

    count: int
    x: Floats

    def mean(self) -> list[float]:
        return [float(value) for value in self.x.mean(axis=0)]

    def std(self) -> list[float]:
        return [float(value) for value in self.x.std(axis=0)]


@dataclass(frozen=True)
class Shortcut:
    """The length of a row as it is written."""

    x: Floats
    what: str = "the length of the row"
    remedy: str = "write all rows alike"


@dataclass(frozen=True)
class Graph:
    """Vectors float32 (n, 4), as they are."""

    preprocessing: Preprocessing
    name: str = "vectors"

    description = "four numbers"
    input_format = "float32 vectors of n x 4"
    request = '{"tests.vectors": [[1.0, 2.0, 3.0, 4.0]]}'

    def module(self) -> nn.Module:
        return Normalised(self.preprocessing)

    def example(self) -> Tensor:
        return torch.zeros(2, WIDTH)

    def dynamic_axes(self) -> dict[int, str]:
        return {}

    def encode(self, sample: Tensor) -> NDArray[np.float32]:
        return np.asarray(sample.numpy(), dtype=np.float32)

    def size(self, data: bytes) -> list[int]:
        return [WIDTH]


class Normalised(nn.Module):
    """Subtract and divide."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.mean, self.std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Layer(nn.Module):
    """A stage of the backbone."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(inputs, outputs), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.model(x)
        return found


def worse(view: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    return view + strength * torch.randn(WIDTH, generator=generator)


def corruptions(preprocessing: Any) -> Any:
    return {"noise": (worse, (0.1, 0.5, 1.0))}


def decode(data: bytes) -> Tensor:
    try:
        numbers = [float(value) for value in json.loads(data).values()]
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"not a row of numbers ({type(error).__name__})") from None
    if len(numbers) != WIDTH or not np.isfinite(numbers).all():
        raise DataError(f"{len(numbers)} numbers, expected {WIDTH} finite ones")
    return torch.tensor(numbers)


def columns_of(table: pd.DataFrame) -> list[str]:
    return [column for column in table.columns if re.fullmatch(r"x\d+", column)]


def fits_hub(features: Mapping[str, Any]) -> bool:
    return False


def write_hub_split(rows: Any, folder: Path) -> None:
    raise DataError("vectors come from tables")


def describe(data: bytes) -> dict[str, Any]:
    return {"width": len(decode(data))}


def refuse(table: pd.DataFrame, settings: Settings) -> list[str | None]:
    return [None] * len(table)


def scan(source: Source, table: pd.DataFrame, audited: int) -> Scan:
    errors: list[str | None] = []
    vectors = np.zeros((len(table), WIDTH))
    for row, path in enumerate(table["path"]):
        try:
            vectors[row] = decode(source.read(path)).numpy()
            errors.append(None)
        except DataError as error:
            errors.append(str(error))
    return Scan(pd.DataFrame({"error": pd.Series(errors, dtype=object)}), vectors[:audited])


def check(table: pd.DataFrame, scan: Scan, settings: Settings) -> list[dict[str, Any]]:
    return []


def comparable_rows(scan: Scan, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows


def near_copies(scan: Scan, rows: NDArray[np.int64], threshold: float, near_copy_margin: float) -> Copies:
    return np.zeros((0, 2), np.int64), np.zeros(0)


def variants(scan: Scan, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.zeros(len(pairs), np.bool_)


def prints(source: Source, paths: Sequence[str]) -> NDArray[np.uint8]:
    return np.zeros((len(paths), 1), np.uint8)


def print_copies(
    theirs: NDArray[np.uint8], mine: NDArray[np.uint8], threshold: float, near_copy_margin: float
) -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


def shortcuts(table: pd.DataFrame, scan: Scan, rows: NDArray[np.int64]) -> list[Shortcut]:
    return [Shortcut(table["bytes"].to_numpy(dtype=np.float64)[rows, None])]


def pretrained(backbone: str, settings: Settings, table: pd.DataFrame, weights: Path) -> Preprocessing:
    return Preprocessing()


def preprocessing(fields: Mapping[str, Any]) -> Preprocessing:
    return Preprocessing(tuple(fields["mean"]), tuple(fields["std"]))


def measure(source: Source, paths: Sequence[str], preprocessing: Preprocessing) -> Moments:
    return Moments(len(paths), np.stack([decode(source.read(path)).numpy() for path in paths]))


def normalisations(pretrained: Preprocessing, moments: Moments) -> dict[str, Preprocessing]:
    own = replace(pretrained, mean=tuple(moments.mean()), std=tuple(moments.std()))
    return {"pretrained": pretrained, "dataset": own}


def views(preprocessing: Preprocessing, settings: Settings, seed: int) -> Views:
    return Views(preprocessing, settings.noise, seed)


def deterministic_views(preprocessing: Preprocessing) -> Views:
    return Views(preprocessing, 0.0, 0)


def views_of(meta: Mapping[str, Any]) -> Views:
    return Views(preprocessing(meta["preprocessing"]), meta["noise"], meta["seed"])


def load_backbone(name: str, preprocessing: Preprocessing, weights: str | None) -> Backbone:
    if name != "two-layers":
        raise BackboneError(f"backbone.name: found {name!r}, expected two-layers")
    layers = [Layer(WIDTH, HIDDEN), Layer(HIDDEN, HIDDEN), Layer(HIDDEN, HIDDEN)]
    if weights:
        state = load_file(weights)
        for number, layer in enumerate(layers):
            own = {key: state[f"{number}.{key}"] for key in layer.state_dict()}
            layer.load_state_dict(own)
    return Backbone(
        name, [Stage(renamed(number, layer)) for number, layer in enumerate(layers)], "channels_first"
    )


def renamed(number: int, layer: Layer) -> fx.GraphModule:
    """Put a layer under a name of its own, below that of the whole model."""
    whole = nn.Module()
    model = nn.Module()
    model.add_module(f"layer{number}", layer.model)
    whole.add_module(ROOT, model)
    graph = fx.Graph()
    graph.output(graph.call_module(f"{ROOT}.layer{number}", (graph.placeholder("x"),)))
    return fx.GraphModule(whole, graph)


def find_weights(name: str, source: str, cache: Path, key: str = "backbone.weights") -> Path:
    if not Path(source).is_file():
        raise BackboneError(f"{key}: {source} does not exist")
    return Path(source)


def licence(backbone: str) -> str:
    return "of the tests"


def control_answers(*about: Any) -> None:
    return None


def slice_facts(sample: Tensor, view: Tensor) -> dict[str, float]:
    return {"length": float(view.norm())}


def attribute(network: Network, preprocessing: Preprocessing, view: Tensor) -> Tensor:
    x = preprocessing.batch([view], network.device).requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(network(x).max(), x)
    heat = gradient[0].abs()
    return heat / heat.max().clamp(min=1e-12)


def show(data: bytes, alt: str = "") -> str:
    return ", ".join(f"{number:.2f}" for number in decode(data).tolist())


def show_attribution(data: bytes, preprocessing: Preprocessing, heat: Tensor) -> str:
    return ", ".join(f"{100 * share:.0f} %" for share in heat.tolist())


def input_graph(preprocessing: Preprocessing) -> Graph:
    return Graph(preprocessing)


def from_request(value: Any) -> bytes:
    return json.dumps(dict(enumerate(value))).encode()


def undecided(settings: Any) -> list[str]:
    return []


def symmetric_views(preprocessing: Any, symmetry: str) -> Any:
    raise KeyError(symmetry)


def decided(settings: Any, kept: Mapping[str, bool]) -> Any:
    return settings
