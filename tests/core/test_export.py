"""The exported file sees the same pixels, and gives the same answers, as the model that was judged."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import nn

from steps.core.court import deployment_gates
from steps.core.deploy import FP32, INT8, Exported, deploy, golden, hold_against, open_session, pixels, run
from steps.core.export import Deployed, export_onnx, quantise
from steps.core.images import Preprocessing, plain_view
from steps.core.metrics import Outcome
from steps.core.multilabel import SetOutcome
from steps.core.network import Network
from steps.core.predict import predict_bytes
from steps.core.targets import ANY_OF

from .toys import LOOK, build, encode, picture

SIZES = [(40, 48), (48, 40), (36, 36), (33, 34), (32, 32), (20, 31), (300, 211), (37, 500)]
SETTINGS = {"bootstrap": 100, "seed": 0, "timings": 3, "int8": True}
LIMITS = {
    "min_agreement": 0.98,
    "max_difference": 1e-4,
    "max_megabytes": None,
    "max_latency_ms": None,
    "max_looks": None,
}


def images(count: int = 6, seed: int = 0) -> list[bytes]:
    return [encode(picture(seed + n, 34 + 3 * n, 50 - 2 * n, n % 3)) for n in range(count)]


@cache
def file_of(name: str = "test_resnet", temperature: float = 1.3) -> bytes:
    return export_onnx(build(name), LOOK, temperature)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_the_view_in_the_graph_is_the_view_of_training(
    size: tuple[int, int], squash: bool, interpolation: str
) -> None:
    look = Preprocessing(32, 36, interpolation, (0.5,) * 3, (0.5,) * 3, squash)
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for image in (picture(1, *size), noise):
        found = Deployed(Network([], 3, 2, False), look, 1.0).view(torch.from_numpy(image.copy())[None])[0]
        wanted = plain_view(torch.from_numpy(image.copy()).permute(2, 0, 1).contiguous(), look)
        gap = (found - wanted.float()).abs()
        assert gap.max() <= 1
        assert (gap > 0).sum() <= 1


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("per_image", [False, True])
def test_onnx_and_torch_give_the_same_probabilities(name: str, per_image: bool) -> None:
    network, look = build(name), replace(LOOK, per_image=per_image)
    data = images()
    wanted = predict_bytes(network, look, data)
    logits, probabilities = run(open_session(export_onnx(network, look, 1.3)), map(pixels, data))
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
    np.testing.assert_allclose(probabilities, softmax(wanted / 1.3, axis=1), atol=1e-5)


def test_label_sets_have_sigmoids_and_their_temperature_inside_the_graph() -> None:
    data = images(4)
    file = export_onnx(build("test_resnet"), LOOK, 1.7, ANY_OF)
    logits, probabilities = run(open_session(file), map(pixels, data))
    wanted = predict_bytes(build("test_resnet"), LOOK, data)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
    np.testing.assert_allclose(probabilities, expit(wanted / 1.7), atol=1e-5)
    said = SetOutcome(wanted, np.ones((4, 3), np.int64), 1.7, np.full(3, 0.5))
    one = hold_against("finetuned", FP32, file, said, data, SETTINGS)
    assert one.facts["agreement"] == 1.0
    assert one.facts["largest_difference"] < 1e-5


def test_a_batch_gives_what_its_images_give_alone() -> None:
    session = open_session(file_of())
    batch = np.stack([picture(seed, 41, 57) for seed in range(5)])
    together = session.run(None, {"images": batch})[1]
    _, alone = run(session, batch)
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_the_same_model_gives_the_same_bytes_and_names_no_place() -> None:
    again = export_onnx(build("test_resnet"), LOOK, 1.3)
    assert again == file_of()
    assert b"/work" not in again
    assert b"site-packages" not in again
    calibration = [pixels(data) for data in images()]
    assert quantise(again, calibration) == quantise(again, calibration)


def test_the_int8_file_is_smaller_and_mostly_agrees() -> None:
    data = images(20)
    quantised = quantise(file_of("test_efficientnet"), [pixels(d) for d in data])
    assert len(quantised) < 0.75 * len(file_of("test_efficientnet"))
    (_, exact), (_, rough) = (
        run(open_session(file), map(pixels, data)) for file in (file_of("test_efficientnet"), quantised)
    )
    assert 0 < np.abs(exact - rough).max() < 0.1


def test_the_golden_images_get_their_answers_back() -> None:
    from safetensors.numpy import load

    data = images(3)
    kept = load(golden(data, exported(file_of(), data)))
    files = [kept[f"image_{n}"].tobytes() for n in range(3)]
    assert files == data
    np.testing.assert_array_equal(run(open_session(file_of()), map(pixels, files))[1], kept["probabilities"])


def exported(file: bytes, data: list[bytes], variant: str = FP32) -> Exported:
    logits = predict_bytes(build("test_resnet"), LOOK, data)
    said = Outcome(logits, np.zeros(len(data), dtype=np.int64), 1.3)
    return hold_against("finetuned", variant, file, said, data, SETTINGS)


def failed(rows: list[dict[str, Any]]) -> list[str]:
    return [row["gate"] for row in rows if not row["passed"]]


class Swapped(nn.Module):
    """The mistake that exports are known for: red and blue the other way round."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.inner = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(x.flip(1))
        return out


@cache
def swapped() -> bytes:
    return export_onnx(Swapped(build("test_resnet")), LOOK, 1.3)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_a_file_with_swapped_channels_is_found_out_and_the_right_one_passes(seed: int) -> None:
    data = images(6, 100 * seed)
    good, bad = exported(file_of(), data), exported(swapped(), data)
    assert failed(deployment_gates([good], "finetuned", 1, LIMITS)) == []
    assert failed(deployment_gates([bad], "finetuned", 1, LIMITS)) == ["parity: finetuned, fp32"]


def test_the_budget_is_held_for_the_candidate_only() -> None:
    data = images(3)
    good = exported(file_of(), data)
    other = replace(good, model="student")
    tight = {**LIMITS, "max_megabytes": 1e-6, "max_latency_ms": 1e-6, "max_looks": 3}
    rows = deployment_gates([good, other], "student", 4, tight)
    assert failed(rows) == ["megabytes", "latency p50, ms", "looks at the test set"]
    roomy = {**LIMITS, "max_megabytes": 1e6, "max_latency_ms": 1e6, "max_looks": 4}
    rows = deployment_gates([good, other], "student", 4, roomy)
    assert len(rows) == 5
    assert failed(rows) == []


def test_a_quantised_file_that_disagrees_fails() -> None:
    one = exported(file_of(), images(3), INT8)
    for agreement, passes in ((0.98, True), (0.979, False)):
        told = replace(one, facts={**one.facts, "agreement": agreement})
        whole = replace(one, variant=FP32)
        rows = deployment_gates([whole, told], "finetuned", 1, LIMITS)
        assert failed(rows) == ([] if passes else ["parity: finetuned, int8"])


def test_every_model_is_deployed_in_every_variant() -> None:
    from .toys import Seer

    labels: NDArray[np.int64] = np.array([2, 1, 0, 2, 1, 0])
    found = deploy({"finetuned": Seer(), "student": Seer(margin=1.0)}, images(), images(), labels, SETTINGS)
    assert [one.name for one in found] == [
        "finetuned, fp32", "finetuned, int8", "student, fp32", "student, int8",
    ]  # fmt: skip
    for one in found:
        assert one.clock["latency_p50_ms"] <= one.clock["latency_p99_ms"]
        assert one.facts["accuracy"]["value"] == 1.0
