"""The exported file sees the same pixels, and gives the same answers, as the model that was judged."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from steps.core.evaluation.inference import predict_bytes
from steps.core.export.onnx_export import export_onnx
from steps.core.export.parity import (
    FP32,
    INT8,
    WARM_UP,
    ExportedFile,
    ParityResult,
    compare_with_torch,
    export_model,
    golden_file,
    interleaved_latencies,
    open_session,
    run,
    run_files,
)
from steps.core.modalities.image.onnx_input import ImageInputModule
from steps.core.modalities.image.pixels import Preprocessing, deterministic_view, read_image
from steps.core.promotion.gates import deployment_gates, parity_gates, withheld
from steps.core.tasks.label_sets import LabelSetPredictions
from steps.core.tasks.metrics import SingleLabelPredictions
from steps.core.tasks.targets import LABEL_SET_TARGETS
from tests.core.toys import PREPROCESSING, build, encode, exported, graph_of, picture, raw

SIZES = [(40, 48), (48, 40), (36, 36), (33, 34), (32, 32), (20, 31), (300, 211), (37, 500)]
SETTINGS = {"bootstrap": 100, "seed": 0}
CLOCK = {"latency_p50_ms": 1.0, "latency_p99_ms": 2.0}
LIMITS: dict[str, Any] = {
    "parity": {
        "fp32": {"logits": 1e-3, "probabilities": 1e-4, "top1": 1.0},
        "int8": {"logits": 0.25, "probabilities": 0.05, "top1": 0.98},
    },
    "max_megabytes": None,
    "max_latency_ms": None,
    "max_test_uses": None,
}


def images(count: int = 6, seed: int = 0) -> list[bytes]:
    return [encode(picture(seed + n, 34 + 3 * n, 50 - 2 * n, n % 3)) for n in range(count)]


def file_of(name: str = "test_resnet") -> bytes:
    return exported(1.3, name)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_the_view_in_the_graph_is_the_view_of_training(
    size: tuple[int, int], squash: bool, interpolation: str
) -> None:
    preprocessing = Preprocessing(32, 36, interpolation, (0.5,) * 3, (0.5,) * 3, squash)
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for image in (picture(1, *size), noise):
        found = ImageInputModule(preprocessing).view(torch.from_numpy(image.copy())[None])[0]
        wanted = deterministic_view(
            torch.from_numpy(image.copy()).permute(2, 0, 1).contiguous(), preprocessing
        )
        gap = (found - wanted.float()).abs()
        assert gap.max() <= 1
        assert (gap > 0).sum() <= 1


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("per_image", [False, True])
def test_onnx_and_torch_give_the_same_probabilities(name: str, per_image: bool) -> None:
    network, preprocessing = build(name), replace(PREPROCESSING, per_image=per_image)
    data = images()
    wanted = predict_bytes(network, preprocessing, data)
    file = export_onnx(network, graph_of(preprocessing), 1.3) if per_image else file_of(name)
    logits, probabilities = run(open_session(file), map(raw, data))
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
    np.testing.assert_allclose(probabilities, softmax(wanted / 1.3, axis=1), atol=1e-5)


def test_label_sets_have_sigmoids_and_their_temperature_inside_the_graph() -> None:
    data = images(4)
    file = export_onnx(build("test_resnet"), graph_of(), 1.7, LABEL_SET_TARGETS)
    logits, probabilities = run(open_session(file), map(raw, data))
    wanted = predict_bytes(build("test_resnet"), PREPROCESSING, data)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
    np.testing.assert_allclose(probabilities, expit(wanted / 1.7), atol=1e-5)
    said = LabelSetPredictions(wanted, np.ones((4, 3), np.int64), 1.7, np.full(3, 0.5))
    one = compare_with_torch(
        ExportedFile("finetuned", FP32, file, graph_of()), (logits, probabilities), said, CLOCK, SETTINGS
    )
    assert one.facts["agreement"] == 1.0
    assert one.facts["largest_difference"] < 1e-5


def test_a_batch_gives_what_its_images_give_alone() -> None:
    session = open_session(file_of())
    batch = np.stack([picture(seed, 41, 57) for seed in range(5)])
    together = session.run(None, {"images": batch})[1]
    _, alone = run(session, batch)
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_the_same_model_gives_the_same_bytes_and_names_no_place() -> None:
    again = export_onnx(build("test_resnet"), graph_of(), 1.3)
    assert again == file_of()
    assert b"/work" not in again
    assert b"site-packages" not in again


def test_the_golden_images_get_their_answers_back_from_every_file() -> None:
    from safetensors.numpy import load

    data = images(5)
    files = [
        ExportedFile("finetuned", FP32, file_of(), graph_of()),
        ExportedFile("student", FP32, file_of("test_efficientnet"), graph_of()),
    ]
    answers = {file.name: run(file.session, map(raw, data)) for file in files}
    kept = load(golden_file(data[:3], answers))
    shown = [kept[f"sample_{n}"].tobytes() for n in range(3)]
    assert shown == data[:3]
    for file in files:
        logits, probabilities = run(open_session(file.content), map(raw, shown))
        np.testing.assert_array_equal(logits, kept[f"{file.name} logits"])
        np.testing.assert_array_equal(probabilities, kept[f"{file.name} probabilities"])
    assert len(kept) == 3 + 2 * 2


def held(content: bytes, data: list[bytes], variant: str = FP32) -> ParityResult:
    logits = predict_bytes(build("test_resnet"), PREPROCESSING, data)
    said = SingleLabelPredictions(logits, np.zeros(len(data), dtype=np.int64), 1.3)
    file = ExportedFile("finetuned", variant, content, graph_of())
    return compare_with_torch(file, run(file.session, map(raw, data)), said, CLOCK, SETTINGS)


def failed(rows: list[dict[str, Any]]) -> list[str]:
    return [row["gate"] for row in rows if not row["passed"]]


def test_the_candidates_file_is_held_to_the_budget() -> None:
    good = held(file_of(), images(3))
    tight = {**LIMITS, "max_megabytes": 1e-6, "max_latency_ms": 1e-6, "max_test_uses": 3}
    rows = deployment_gates(good, 4, tight)
    assert failed(rows) == ["megabytes", "latency p50, ms", "models judged on the test set"]
    roomy = {**LIMITS, "max_megabytes": 1e6, "max_latency_ms": 1e6, "max_test_uses": 4}
    rows = deployment_gates(good, 4, roomy)
    assert len(rows) == 3 + 3
    assert failed(rows) == []


@pytest.mark.parametrize(
    ("variant", "fact", "good", "bad", "level"),
    [
        (FP32, "largest_logit_difference", 1e-3, 1.1e-3, "logits"),
        (FP32, "largest_difference", 1e-4, 1.1e-4, "probabilities"),
        (FP32, "agreement", 1.0, 0.999, "top1"),
        (INT8, "mean_logit_difference", 0.25, 0.26, "logits"),
        (INT8, "mean_difference", 0.05, 0.051, "probabilities"),
        (INT8, "agreement", 0.98, 0.979, "top1"),
    ],
)
def test_a_file_is_held_to_the_model_at_three_levels(
    variant: str, fact: str, good: float, bad: float, level: str
) -> None:
    whole = held(file_of(), images(3))
    one = replace(whole, file=replace(whole.file, variant=variant))
    for value, passes in ((good, True), (bad, False), (float("nan"), False)):
        told = replace(one, facts={**one.facts, fact: value})
        rows = parity_gates(told, LIMITS["parity"][variant])
        assert failed(rows) == ([] if passes else [f"parity: finetuned, {variant}, {level}"])
        assert withheld(told, LIMITS).partition(":")[0] == ("" if passes else level)


def test_a_model_is_exported_in_every_variant_and_answers() -> None:
    from tests.core.toys import BrightestChannelModel

    loose = {"logits": 100.0, "probabilities": 1.0, "top1": 0.0}
    files = export_model("student", BrightestChannelModel(), images(), images(3), loose)
    assert [file.name for file in files] == ["student, fp32", "student, int8"]
    for data, label in zip(images(), [2, 1, 0, 2, 1, 0], strict=True):
        told = run_files(files, read_image(data))
        assert [int(logits.argmax()) for logits, _ in told] == [label] * 2
    (alone,) = export_model("student", BrightestChannelModel(), images(), images(3), None)
    assert alone.variant == FP32
    never = {**loose, "logits": -1.0}
    _, off = export_model("student", BrightestChannelModel(), images(), images(3), never)
    assert off.content == files[1].content, "to be compared, and withheld"


def test_differences_of_logits_are_in_their_standard_deviations() -> None:
    data = images()
    one = held(file_of(), data)
    said = SingleLabelPredictions(
        predict_bytes(build("test_resnet"), PREPROCESSING, data), np.zeros(len(data), dtype=np.int64), 1.3
    )
    shifted = (said.logits + said.logits.std(), said.probabilities)
    facts = compare_with_torch(one.file, shifted, said, CLOCK, SETTINGS).facts
    assert facts["largest_logit_difference"] == pytest.approx(1.0)
    assert facts["mean_logit_difference"] == pytest.approx(1.0)
    assert (facts["agreement"], facts["largest_difference"]) == (1.0, 0.0)


def test_the_clock_is_of_single_answers_by_turns() -> None:
    asked: list[str] = []

    class Session:
        def __init__(self, name: str, seconds: float) -> None:
            self.name, self.seconds = name, seconds

        def run(self, outputs: None, feed: dict[str, Any]) -> None:
            assert feed["images"].shape == (1, 40, 48, 3)
            asked.append(self.name)
            time.sleep(self.seconds)

    sessions: Any = {"slow": Session("slow", 0.004), "quick": Session("quick", 0.0)}
    clocks = interleaved_latencies(sessions, {"images": picture(0)[None]}, 4)
    assert asked == ["slow", "quick"] * (4 + WARM_UP)
    assert clocks["slow"]["latency_p50_ms"] > 4 > clocks["quick"]["latency_p50_ms"]
    assert all(latency["latency_p50_ms"] <= latency["latency_p99_ms"] for latency in clocks.values())
