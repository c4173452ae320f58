import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steps.core.backbones.network import Network
from steps.core.export import latency as module
from steps.core.export.latency import Figures, benchmark, known_by, processor_name
from tests.core.toys import IMAGE, PREPROCESSING, build, encode, picture

SAMPLE = encode(picture(0))


def networks(scale: float = 1.0) -> dict[str, Network]:
    found = {"teacher": build("test_resnet"), "cut": build("test_resnet", keep=2)}
    for network in found.values():
        network.head.weight.data.mul_(scale)
    return found


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Figures]:
    folder = tmp_path_factory.mktemp("benchmarks")
    return folder, benchmark(networks(), IMAGE, PREPROCESSING, SAMPLE, 3, folder)


def test_every_network_has_its_latency_and_the_size_of_its_file(kept: tuple[Path, Figures]) -> None:
    found = kept[1]
    assert set(found) == {"teacher", "cut"}
    for figures in found.values():
        assert 0 < figures["latency_p50_ms"] <= figures["latency_p99_ms"]
    assert 0 < found["cut"]["megabytes"] < found["teacher"]["megabytes"]


def test_what_was_measured_is_kept_whatever_the_weights(
    kept: tuple[Path, Figures], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = kept
    (file,) = (folder / "benchmarks").iterdir()
    assert json.loads(file.read_text()) == found
    monkeypatch.setattr(module, "export_onnx", refuse)
    assert benchmark(networks(), IMAGE, PREPROCESSING, SAMPLE, 3, folder) == found
    assert benchmark(networks(scale=2.0), IMAGE, PREPROCESSING, encode(picture(7)), 3, folder) == found


@pytest.mark.parametrize(
    "changes",
    [
        {"sample": encode(picture(0, 50, 60))},
        {"latency_runs": 4},
        {"networks": {"teacher": build("test_resnet")}},
        {"preprocessing": replace(PREPROCESSING, resize=40)},
    ],
    ids=["picture", "latency_runs", "networks", "preprocessing"],
)
def test_what_the_clock_depends_on_is_measured_anew(
    kept: tuple[Path, Figures], changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = {
        "networks": networks(),
        "modality": IMAGE,
        "preprocessing": PREPROCESSING,
        "sample": SAMPLE,
        "latency_runs": 3,
    }
    monkeypatch.setattr(module, "export_onnx", refuse)
    with pytest.raises(AssertionError, match="measured again"):
        benchmark(**{**usual, **changes}, scratch=kept[0])


def refuse(*words: Any) -> None:
    raise AssertionError("measured again")


def test_architectures_are_told_apart_and_weights_are_not() -> None:
    one, other = build("test_resnet"), build("test_resnet")
    other.head.weight.data.add_(1)
    assert known_by(one) == known_by(other)
    rest = [build("test_resnet", keep=3), build("test_efficientnet"), build("test_resnet", classes=4)]
    assert len({str(known_by(network)) for network in [one, *rest]}) == 4


def test_the_processor_has_a_name() -> None:
    assert processor_name().strip()
