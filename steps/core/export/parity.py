"""The exported files compared with the evaluated PyTorch model: agreement and latency."""

import logging
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
from steps.core.export.onnx_export import export_onnx
from steps.core.export.quantisation import Quantised, quantise
from steps.core.modalities.parts import InputGraph
from steps.core.modalities.registry import modality_of
from steps.core.tasks.intervals import share_of
from steps.core.tasks.metrics import Floats
from steps.core.tasks.predictions import Predictions
from steps.core.tasks.targets import kind_for_model
from steps.core.tasks.thresholds import predictions_of

FP32, INT8 = "fp32", "int8"
WARM_UP = 5
Limits = Mapping[str, float]
MIN_STD = 1e-12  # of logits that are all the same

log = logging.getLogger("headstart")


@dataclass(frozen=True)
class ExportedFile:
    """One exported model, ready to answer."""

    model: str
    variant: str
    content: bytes
    graph: InputGraph
    """What stands before the network."""
    quantised: Quantised | None = None
    """How it came to its 8 bits; None: it has none."""

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
class ParityResult:
    """A file, and how it compares with the torch model that it was made from."""

    file: ExportedFile
    facts: dict[str, Any]
    """megabytes, agreement of the answers, accuracy with interval, differences; see `compare_with_torch`."""
    latency: dict[str, float]
    """latency_p50_ms, latency_p99_ms; apart, as they are never the same twice."""


def export_model(
    name: str, model: Model, calibration: Sequence[bytes], held_out: Sequence[bytes], limits: Limits | None
) -> list[ExportedFile]:
    """Export a model in float32 and then, where there are limits, in int8.

    Args:
        name: Of the model.
        model: It.
        calibration: Samples, as stored, that the ranges of the int8 file are taken from.
        held_out: Samples on which the int8 file has to agree with the float32 one while it is made.
        limits: See `within`; None: no int8 file.
    """
    graph = modality_of(model.meta).input_graph(model.preprocessing)
    content = export_onnx(model.network(), graph, model.meta["temperature"], kind_for_model(model.meta))
    exact = ExportedFile(name, FP32, content, graph)
    if limits is None:
        return [exact]
    ranges, judged = (
        [graph.encode(model.preprocessing.decode(data)) for data in part] for part in (calibration, held_out)
    )
    logits, _ = run(exact.session, judged)
    truth = np.zeros(logits.shape if "thresholds" in model.meta else len(logits), np.int64)  # not looked at
    wanted = predictions_of(logits, truth, model.meta)

    def agrees(candidate: bytes) -> bool:
        return within(differences(run(open_session(candidate), judged), wanted), limits)

    quantised = quantise(content, graph.name, ranges, agrees)
    if quantised.float_layers:
        log.info("int8 file of %s: %d of %d layers stay in float for it to agree", name,
                 len(quantised.float_layers), quantised.layers)  # fmt: skip
    return [exact, ExportedFile(name, INT8, quantised.content, graph, quantised)]


def run_files(files: Sequence[ExportedFile], sample: Any) -> list[tuple[Floats, Floats]]:
    """Return every file's logits and probabilities (1, classes) of a decoded sample."""
    return [run(file.session, [file.graph.encode(sample)]) for file in files]


def compare_with_torch(
    file: ExportedFile,
    answers: tuple[Floats, Floats],
    torch_predictions: Predictions,
    latency: dict[str, float],
    settings: Mapping[str, Any],
) -> ParityResult:
    """Compare a file's logits and probabilities (n, classes) with torch's; `latency` is the file's.

    A difference is the largest over a sample's classes: the largest and the mean of them over the samples.
    Those of logits are in standard deviations of the logits, since only their ratios mean something.
    """
    predictions = torch_predictions.with_logits(answers[0])
    facts = {
        "megabytes": len(file.content) / 1e6,
        **differences(answers, torch_predictions),
        "accuracy": share_of(predictions.correct, predictions.groups),
    }
    if file.quantised:
        facts["float_layers"], facts["layers"] = file.quantised.float_layers, file.quantised.layers
        facts["megabytes_all_layers"] = len(file.quantised.all_layers) / 1e6
    return ParityResult(file, facts, latency)


def differences(answers: tuple[Floats, Floats], wanted: Predictions) -> dict[str, float]:
    """Return how logits and probabilities (n, classes) differ from those that are wanted."""
    logits, probabilities = answers
    of_logits = np.abs(logits - wanted.logits).max(axis=1) / max(wanted.logits.std(), MIN_STD)
    of_probabilities = np.abs(probabilities - wanted.probabilities).max(axis=1)
    return {
        "agreement": wanted.with_logits(logits).agreement(wanted),
        "largest_logit_difference": float(of_logits.max()),
        "mean_logit_difference": float(of_logits.mean()),
        "largest_difference": float(of_probabilities.max()),
        "mean_difference": float(of_probabilities.mean()),
    }


def within(found: Mapping[str, float], limits: Limits) -> bool:
    """Say whether an int8 file's `differences` keep to the limits: logits, probabilities, top1."""
    return (
        found["agreement"] >= limits["top1"]
        and found["mean_logit_difference"] <= limits["logits"]
        and found["mean_difference"] <= limits["probabilities"]
    )


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


def interleaved_latencies(
    sessions: Mapping[str, ort.InferenceSession], feed: Mapping[str, NDArray[Any]], latency_runs: int
) -> dict[str, dict[str, float]]:
    """Return the median and the 99th percentile of single answers, in milliseconds.

    All sessions answer in rounds, so that all see the same load of the machine: their ratios are more
    reliable than the figures.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(latency_runs + WARM_UP):
        for name, session in sessions.items():
            begun = time.perf_counter()
            session.run(None, feed)
            seconds[name].append(time.perf_counter() - begun)
    quantiles = {name: np.quantile(taken[WARM_UP:], [0.5, 0.99]) * 1000 for name, taken in seconds.items()}
    return {
        name: {"latency_p50_ms": float(p50), "latency_p99_ms": float(p99)}
        for name, (p50, p99) in quantiles.items()
    }


def golden_file(samples: Sequence[bytes], answers: Mapping[str, tuple[Floats, Floats]]) -> bytes:
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
