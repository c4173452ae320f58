"""The files that production would run, held against the model that was judged: do they agree, how fast?"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from safetensors.numpy import save

from steps.core.evaluation.evaluation import Model
from steps.core.export.onnx_export import export_onnx, quantise
from steps.core.modalities.parts import InputGraph
from steps.core.modalities.registry import modality_of
from steps.core.tasks.intervals import evaluate
from steps.core.tasks.metrics import Floats
from steps.core.tasks.predictions import Answers
from steps.core.tasks.targets import of_model

FP32, INT8 = "fp32", "int8"
WARM_UP = 5
LEAST_SPREAD = 1e-12  # of logits that are all the same


@dataclass(frozen=True)
class File:
    """One exported model, ready to answer."""

    model: str
    variant: str
    content: bytes
    graph: InputGraph
    """What stands before the network."""

    @property
    def name(self) -> str:
        """What to call it in a table."""
        return f"{self.model}, {self.variant}"

    @property
    def label(self) -> dict[str, str]:
        """How a row of a table says which file it is of."""
        return {"model": self.model, "variant": self.variant}

    @cached_property
    def session(self) -> ort.InferenceSession:
        """The file, loaded."""
        return open_session(self.content)


@dataclass(frozen=True)
class Exported:
    """A file, and how it compares with the torch model that it was made from."""

    file: File
    facts: dict[str, Any]
    """megabytes, agreement of the answers, accuracy with interval, differences; see `hold_against`."""
    clock: dict[str, float]
    """latency_p50_ms, latency_p99_ms; apart, as they are never the same twice."""


def deploy(models: Mapping[str, Model], calibration: Sequence[bytes], int8: bool) -> list[File]:
    """Export every model, in float32 and, if asked, in int8 with ranges from the calibration samples."""
    files = []
    for name, model in models.items():
        graph = modality_of(model.meta).input_graph(model.look)
        whole = export_onnx(model.network(), graph, model.meta["temperature"], of_model(model.meta))
        files.append(File(name, FP32, whole, graph))
        if int8:
            known = [graph.encode(model.look.decode(data)) for data in calibration]
            files.append(File(name, INT8, quantise(whole, graph.name, known), graph))
    return files


def answer(files: Sequence[File], sample: Any) -> list[tuple[Floats, Floats]]:
    """Return every file's logits and probabilities (1, classes) of a decoded sample."""
    return [run(file.session, [file.graph.encode(sample)]) for file in files]


def hold_against(
    file: File,
    answers: tuple[Floats, Floats],
    torch_says: Answers,
    clock: dict[str, float],
    settings: Mapping[str, Any],
) -> Exported:
    """Compare a file's logits and probabilities (n, classes) with torch's; `clock` is its latency.

    A difference is the largest over a sample's classes: the largest and the mean of them over the samples.
    Those of logits are in standard deviations of the logits, since only their ratios mean something.
    """
    logits, probabilities = answers
    outcome = torch_says.again(logits)
    metrics = evaluate(outcome, settings["bootstrap"], settings["seed"])
    of_logits = np.abs(logits - torch_says.logits).max(axis=1) / max(torch_says.logits.std(), LEAST_SPREAD)
    of_probabilities = np.abs(probabilities - torch_says.probabilities).max(axis=1)
    facts = {
        "megabytes": len(file.content) / 1e6,
        "agreement": float((outcome.predicted == torch_says.predicted).mean()),
        "largest_logit_difference": float(of_logits.max()),
        "mean_logit_difference": float(of_logits.mean()),
        "largest_difference": float(of_probabilities.max()),
        "mean_difference": float(of_probabilities.mean()),
        "accuracy": metrics["accuracy"],
    }
    return Exported(file, facts, clock)


def open_session(file: bytes) -> ort.InferenceSession:
    """Load an ONNX file on the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, samples: Iterable[NDArray[Any]]) -> tuple[Floats, Floats]:
    """Return logits and probabilities (n, classes); samples one by one, since their sizes differ."""
    name = session.get_inputs()[0].name
    pairs = [session.run(None, {name: sample[None]}) for sample in samples]
    logits, probabilities = (np.concatenate(part).astype(np.float64) for part in zip(*pairs, strict=True))
    return logits, probabilities


def by_turns(
    sessions: Mapping[str, ort.InferenceSession], feed: Mapping[str, NDArray[Any]], timings: int
) -> dict[str, dict[str, float]]:
    """Return the median and the 99th percentile of single answers, in milliseconds.

    All sessions answer in rounds, so that all meet the same weather: their ratios are worth more than the
    figures.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(timings + WARM_UP):
        for name, session in sessions.items():
            begun = time.perf_counter()
            session.run(None, feed)
            seconds[name].append(time.perf_counter() - begun)
    quantiles = {name: np.quantile(taken[WARM_UP:], [0.5, 0.99]) * 1000 for name, taken in seconds.items()}
    return {
        name: {"latency_p50_ms": float(p50), "latency_p99_ms": float(p99)}
        for name, (p50, p99) in quantiles.items()
    }


def golden(samples: Sequence[bytes], answers: Mapping[str, tuple[Floats, Floats]]) -> bytes:
    """Pack samples, as stored, with every model's logits and probabilities (n, classes), the first rows.

    By these anyone can check what they run: sample_0, ..., and "NAME logits", "NAME probabilities".
    """
    packed: dict[str, NDArray[Any]] = {
        f"sample_{n}": np.frombuffer(data, np.uint8) for n, data in enumerate(samples)
    }
    for name, (logits, probabilities) in answers.items():
        packed[f"{name} logits"] = logits[: len(samples)].copy()
        packed[f"{name} probabilities"] = probabilities[: len(samples)].copy()
    return save(packed)
