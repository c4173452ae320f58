"""The files that production would run, held against the model that was judged: do they agree, how fast?"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from safetensors.numpy import save

from steps.core.answers import Answers
from steps.core.evaluation import Model
from steps.core.export import IMAGES, export_onnx, quantise
from steps.core.images import read_image
from steps.core.metrics import Floats, Ints, evaluate
from steps.core.predict import predict_bytes
from steps.core.targets import of_model
from steps.core.thresholds import outcome_of

FP32, INT8 = "fp32", "int8"
WARM_UP = 5


@dataclass(frozen=True)
class Exported:
    """One file, and how it compares with the torch model that it was made from."""

    model: str
    variant: str
    file: bytes
    facts: dict[str, Any]
    """largest_difference of probabilities and logits, agreement of the answers, accuracy with interval."""
    clock: dict[str, float]
    """latency_p50_ms, latency_p99_ms; apart, as they are never the same twice."""

    @property
    def name(self) -> str:
        """What to call it in a table."""
        return f"{self.model}, {self.variant}"


def deploy(
    models: Mapping[str, Model],
    images: Sequence[bytes],
    calibration: Sequence[bytes],
    labels: Ints,
    settings: Mapping[str, Any],
) -> list[Exported]:
    """Export every model, in float32 and, if asked, in int8, and compare both with torch on `images`."""
    found = []
    for name, model in models.items():
        network, temperature = model.network(), model.meta["temperature"]
        logits = predict_bytes(network, model.look, images)
        torch_says = outcome_of(logits, labels, model.meta)
        files = {FP32: export_onnx(network, model.look, temperature, of_model(model.meta))}
        if settings["int8"]:
            files[INT8] = quantise(files[FP32], [pixels(data) for data in calibration])
        for variant, file in files.items():
            found.append(hold_against(name, variant, file, torch_says, images, settings))
    return found


def hold_against(
    model: str,
    variant: str,
    file: bytes,
    torch_says: Answers,
    images: Sequence[bytes],
    settings: Mapping[str, Any],
) -> Exported:
    """Run a file on the images and compare it with torch's answers to them."""
    session = open_session(file)
    logits, probabilities = run(session, (pixels(data) for data in images))
    outcome = torch_says.again(logits)
    metrics = evaluate(outcome, settings["bootstrap"], settings["seed"])
    facts = {
        "megabytes": len(file) / 1e6,
        "agreement": float((outcome.predicted == torch_says.predicted).mean()),
        "largest_difference": float(np.abs(probabilities - torch_says.probabilities).max()),
        "largest_logit_difference": float(np.abs(logits - torch_says.logits).max()),
        "accuracy": metrics["accuracy"],
    }
    return Exported(model, variant, file, facts, latency(session, pixels(images[0]), settings["timings"]))


def pixels(data: bytes) -> NDArray[np.uint8]:
    """Decode to upright RGB (height, width, 3): what the file takes."""
    image: NDArray[np.uint8] = read_image(data).permute(1, 2, 0).contiguous().numpy()
    return image


def open_session(file: bytes) -> ort.InferenceSession:
    """Load an ONNX file on the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, images: Iterable[NDArray[np.uint8]]) -> tuple[Floats, Floats]:
    """Return logits and probabilities (n, classes); images one by one, since their sizes differ."""
    pairs = [session.run(None, {IMAGES: image[None]}) for image in images]
    logits, probabilities = (np.concatenate(part).astype(np.float64) for part in zip(*pairs, strict=True))
    return logits, probabilities


def latency(session: ort.InferenceSession, image: NDArray[np.uint8], count: int) -> dict[str, float]:
    """Return the median and the 99th percentile of `count` single answers, in milliseconds."""
    seconds = []
    for number in range(count + WARM_UP):
        begun = time.perf_counter()
        session.run(None, {IMAGES: image[None]})
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - begun)
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1000
    return {"latency_p50_ms": float(p50), "latency_p99_ms": float(p99)}


def golden(images: Sequence[bytes], exported: Exported) -> bytes:
    """Pack images, as files, with a model's answers to them: by these anyone can check what they run."""
    logits, probabilities = run(open_session(exported.file), (pixels(data) for data in images))
    files = {f"image_{n}": np.frombuffer(data, np.uint8) for n, data in enumerate(images)}
    return save({"logits": logits, "probabilities": probabilities, **files})
