"""`python -m tests.bench.promotion_decisions`: what the gates decide on known challengers, 20 seeds.

Challengers of known worth. Some meet a champion that is right four times of five, or one that does not know
a class, or that knows test images (`successions`), or are met on few samples (`small_sets`), where not every
decision can be right; others are files that a model was exported to, rightly or not.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

from steps.core.backbones.network import Network
from steps.core.evaluation.inference import predict_bytes
from steps.core.export.onnx_export import export_onnx
from steps.core.export.parity import FP32, INT8, ExportedFile, compare_with_torch, run
from steps.core.export.quantisation import Quantiser
from steps.core.promotion.gates import compare_with_champion, parity_gates
from steps.core.tasks.metrics import SingleLabelPredictions
from steps.runtime.phase import all_configs
from tests.bench.small_sets import SMALL_SETS
from tests.bench.successions import SUCCESSIONS
from tests.core.toys import PREPROCESSING, build, encode, exported, graph_of, picture, raw

ROOT = Path(__file__).resolve().parents[2]
OUT = Path("artifacts/bench/promotion_decisions.json").absolute()
SEEDS = 20
CLASSES, SAMPLES = 5, 400
CLOCK = {"latency_p50_ms": 1.0, "latency_p99_ms": 2.0}
Logits = NDArray[np.float64]
Gates = list[dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """One challenger: the gates that failed, how often; those that must; how often the ruling was right."""

    challenger: str
    failed_gates: dict[str, int]
    expected: list[str]
    seeds: int
    right: int


def answered(labels: NDArray[np.int64], skill: list[float], seed: int) -> Logits:
    """Logits of a calibrated model that answers each class rightly with a probability of its own."""
    draw = np.random.default_rng(seed)
    right = draw.random(len(labels)) < np.array(skill)[labels]
    wrong = (labels + draw.integers(1, CLASSES, len(labels))) % CLASSES
    said = np.where(right, labels, wrong)
    sure = np.log(np.mean(right) / (1 - np.mean(right)) * (CLASSES - 1))
    logits: Logits = np.eye(CLASSES)[said] * sure + draw.normal(scale=0.05, size=(len(labels), CLASSES))
    return logits


LogitsFunction = Callable[[NDArray[np.int64], int], Logits]
MODELS: Mapping[str, tuple[LogitsFunction, list[str]]] = {
    "better": (lambda y, seed: answered(y, [0.93] * CLASSES, seed + 1), []),
    "the champion itself": (lambda y, seed: answered(y, [0.8] * CLASSES, seed), ["beats champion"]),
    "worse": (lambda y, seed: answered(y, [0.7] * CLASSES, seed + 2), ["beats champion"]),
    "trained on shuffled labels": (
        lambda y, seed: answered(y, [1 / CLASSES] * CLASSES, seed + 3),
        ["beats champion", "no class has lost recall"],
    ),
    "better, but one class is ruined": (
        lambda y, seed: answered(y, [0.99] * 4 + [0.4], seed + 4),
        ["no class has lost recall"],
    ),
    "better, but far too sure": (
        lambda y, seed: answered(y, [0.88] * CLASSES, seed + 5) * 8,
        ["calibration"],
    ),
    "better, with two classes swapped": (
        lambda y, seed: answered(y, [0.93] * CLASSES, seed + 6)[:, [1, 0, 2, 3, 4]],
        ["beats champion", "no class has lost recall"],
    ),
}
"""Who meets the champion, with the gates that must fail, whatever others do; who has none must pass all."""


def compare_challenger(name: str, seed: int) -> Gates:
    """Let one challenger meet the champion."""
    labels = np.random.default_rng(seed).integers(0, CLASSES, SAMPLES)
    champion = SingleLabelPredictions(answered(labels, [0.8] * CLASSES, 100 * seed), labels, 1.0)
    challenger = SingleLabelPredictions(MODELS[name][0](labels, 100 * seed), labels, 1.0)
    margins = {"champion_margin": 0.0, "class_margin": 0.05, "calibration_margin": 0.02}
    return compare_with_champion(
        champion, challenger, list("abcde"), {"bootstrap": 200, "seed": seed, **margins}
    )


class Swapped(nn.Module):
    """The mistake that exports are known for: red and blue the other way round."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.inner = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn the channels round."""
        out: torch.Tensor = self.inner(x.flip(1))
        return out


def images(seed: int, count: int = 6) -> list[bytes]:
    """Draw pictures of several sizes."""
    return [encode(picture(seed + n, 34 + 3 * n, 50 - 2 * n, n % 3)) for n in range(count)]


def whole() -> bytes:
    """The file that agrees."""
    return exported(1.3)


@cache
def swapped() -> bytes:
    """The file with the channels turned round."""
    return export_onnx(Swapped(build("test_resnet")), graph_of(), 1.3)  # type: ignore[arg-type]


def overconfident() -> bytes:
    """The file that lost the temperature on its way."""
    return exported(1.0)


@cache
def small(file: Callable[[], bytes]) -> bytes:
    """Quantise a file, its ranges from pictures that are not shown again."""
    with Quantiser(file(), "images", [raw(data) for data in images(10_000, 16)]) as quantiser:
        return quantiser.quantise()


LEVELS = ("logits", "probabilities")
FILES: Mapping[str, tuple[str, Callable[[], bytes], list[str]]] = {
    "exported rightly": (FP32, whole, []),
    "exported rightly, int8": (INT8, lambda: small(whole), []),
    "exported with red and blue swapped": (FP32, swapped, [f"parity: m, fp32, {kind}" for kind in LEVELS]),
    "exported with red and blue swapped, int8": (
        INT8,
        lambda: small(swapped),
        ["parity: m, int8, logits"],
    ),
    "exported with another temperature": (
        FP32,
        overconfident,
        ["parity: m, fp32, probabilities"],
    ),
}
"""What a model is exported to, with the checks that must fail: float32 is refused, int8 withheld."""


@cache
def limits() -> dict[str, Any]:
    """Return the limits of params.yaml on parity, by variant."""
    found: dict[str, Any] = all_configs(ROOT / "params.yaml")["promote"].model_dump()["parity"]
    return found


def compare_file(name: str, seed: int) -> Gates:
    """Hold one file to the model it was made from."""
    data = images(100 * seed)
    said = SingleLabelPredictions(
        predict_bytes(build("test_resnet"), PREPROCESSING, data), np.zeros(len(data), dtype=np.int64), 1.3
    )
    variant, content, _ = FILES[name]
    file = ExportedFile("m", variant, content(), graph_of())
    told = run(file.session, map(raw, data))
    one = compare_with_torch(file, told, said, CLOCK, {"bootstrap": 100, "seed": seed})
    return parity_gates(one, limits()[variant])


def count_decisions(name: str, seeds: int = SEEDS) -> Row:
    """Count the decisions on one challenger over all seeds."""
    expected = FILES[name][2] if name in FILES else {**MODELS, **SUCCESSIONS, **SMALL_SETS}[name][1]
    failed_gates: dict[str, int] = {}
    right = 0
    for seed in range(seeds):
        if name in SUCCESSIONS or name in SMALL_SETS:
            rows = {**SUCCESSIONS, **SMALL_SETS}[name][0](seed)
        else:
            rows = compare_challenger(name, seed) if name in MODELS else compare_file(name, seed)
        failed = {row["gate"] for row in rows if not row["passed"]}
        right += failed >= set(expected) and bool(failed) == bool(expected)
        failed_gates.update({gate: failed_gates.get(gate, 0) + 1 for gate in failed})
    return Row(name, dict(sorted(failed_gates.items())), expected, seeds, right)


CHALLENGERS = (*MODELS, *FILES, *SUCCESSIONS)


def main() -> None:
    """Print and write all rows."""
    rows = [count_decisions(name) for name in (*CHALLENGERS, *SMALL_SETS)]
    table = Table("challenger", "gates that failed, of 20 times", "must fail", "decided rightly")
    for row in rows:
        failed_gates = "\n".join(f"{gate}: {count}" for gate, count in row.failed_gates.items()) or "none"
        expected = "\n".join(row.expected) or "none"
        table.add_row(row.challenger, failed_gates, expected, f"{row.right} of {row.seeds}")
    Console(width=130).print(table)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
