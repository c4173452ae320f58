from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file
from sklearn.datasets import load_sample_image

from steps.core.backbones import weights
from steps.core.backbones.timm_adapter import create
from steps.core.backbones.weights import PACKAGED, find_weights
from steps.core.modalities.image.pixels import deterministic_view, normalise
from steps.core.modalities.image.pretrained import pretrained_preprocessing
from steps.core.system.errors import BackboneError
from steps.core.system.storage import file_sha256

LITE = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The packaged weights as safetensors, and the folder that they were put into."""
    cache = tmp_path_factory.mktemp("cache")
    return find_weights(LITE, "packaged", cache), cache


def test_packaged_weights_become_safetensors_under_timm_s_names(unpacked: tuple[Path, Path]) -> None:
    path, cache = unpacked
    assert path.is_relative_to(cache)
    found = load_file(path)
    with torch.device("meta"):
        wanted = timm.create_model(LITE).state_dict()
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in wanted.items()}


def test_packaged_weights_load_into_timm_bit_for_bit(unpacked: tuple[Path, Path]) -> None:
    given = load_file(unpacked[0])
    state = create(LITE, 224, str(unpacked[0])).state_dict()
    assert all(torch.equal(tensor, given[name]) for name, tensor in state.items())


@pytest.mark.parametrize(("photograph", "number"), [("china.jpg", 698), ("flower.jpg", 985)])
def test_packaged_weights_know_a_palace_and_a_daisy(
    unpacked: tuple[Path, Path], photograph: str, number: int
) -> None:
    model = timm.create_model(LITE)
    model.load_state_dict(load_file(unpacked[0]))
    preprocessing = pretrained_preprocessing(LITE, None)
    pixels = torch.from_numpy(load_sample_image(photograph).copy()).permute(2, 0, 1)
    with torch.inference_mode():
        logits = model.eval()(normalise(deterministic_view(pixels, preprocessing)[None], preprocessing))
    assert logits.argmax().item() == number  # of 1000 classes


def test_weights_are_unpacked_once(unpacked: tuple[Path, Path]) -> None:
    path, cache = unpacked
    before = path.stat().st_mtime_ns
    assert find_weights(LITE, "packaged", cache) == path
    assert path.stat().st_mtime_ns == before


def test_unpacking_again_gives_the_same_bytes(unpacked: tuple[Path, Path], tmp_path: Path) -> None:
    assert file_sha256(find_weights(LITE, "packaged", tmp_path)) == file_sha256(unpacked[0])


def test_a_checkpoint_with_another_sha_is_not_even_opened(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pinned = PACKAGED[LITE]._replace(sha256="0" * 64)
    monkeypatch.setattr(weights, "PACKAGED", {LITE: pinned})
    with pytest.raises(BackboneError, match=f"has SHA-256 {PACKAGED[LITE].sha256}, expected {'0' * 64}"):
        find_weights(LITE, "packaged", tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_checkpoint_of_another_architecture_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(weights, "PACKAGED", {"test_resnet": PACKAGED[LITE]})
    with pytest.raises(BackboneError, match="does not have the tensors of test_resnet"):
        find_weights("test_resnet", "packaged", tmp_path)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    missing = PACKAGED[LITE]._replace(package="no_such_package_at_all")
    monkeypatch.setattr(weights, "PACKAGED", {LITE: missing})
    with pytest.raises(BackboneError, match="no_such_package_at_all is not installed"):
        find_weights(LITE, "packaged", tmp_path)


def test_a_backbone_that_is_not_packaged_is_told_what_is_and_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=rf"no packaged weights for resnet50.*{LITE}.*backbone\.weights"):
        find_weights("resnet50", "packaged", tmp_path)


def test_a_safetensors_path_is_taken_as_it_is(unpacked: tuple[Path, Path], tmp_path: Path) -> None:
    assert find_weights("anything", str(unpacked[0]), tmp_path) == unpacked[0]


@pytest.mark.parametrize("source", ["model.pth", "model.bin", "pickled", "", "hub2", "model.safetensors.pt"])
def test_a_path_that_is_no_safetensors_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(BackboneError, match=r"expected packaged, hub or a \.safetensors file"):
        find_weights(LITE, source, tmp_path)


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"nowhere\.safetensors does not exist"):
        find_weights(LITE, str(tmp_path / "nowhere.safetensors"), tmp_path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty local cache of the hub, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.usefixtures("hub")
def test_out_of_reach_of_the_hub_the_file_and_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="resnet50 cannot be downloaded") as caught:
        find_weights("resnet50", "hub", tmp_path)
    repository = timm.get_pretrained_cfg("resnet50").hf_hub_id
    for part in (f"model.safetensors of https://huggingface.co/{repository}", "weights/resnet50.safetensors"):
        assert part in str(caught.value)
    assert "set backbone.weights to that path" in str(caught.value)


def test_weights_that_lie_in_the_hub_s_local_cache_need_no_network(hub: Path, tmp_path: Path) -> None:
    folder = hub / f"models--{timm.get_pretrained_cfg('resnet50').hf_hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (folder / "snapshots" / ("0" * 40) / "model.safetensors").write_bytes(b"here")
    assert find_weights("resnet50", "hub", tmp_path).read_bytes() == b"here"


def test_a_backbone_without_weights_on_the_hub_is_told_to_use_a_file(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="test_mambaout has no pretrained weights on the hub"):
        find_weights("test_mambaout", "hub", tmp_path)
