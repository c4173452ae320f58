from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from steps.core.backbones.stages import Stage
from steps.core.backbones.timm_adapter import create, split, takes_img_size
from steps.core.system.errors import BackboneError

ON_META = [
    "mobilenetv3_small_100",
    "efficientnet_b0",
    "efficientnet_b2",
    "efficientnet_b4",
    "resnet50",
    "convnext_base",
    "vit_base_patch16_224",
    "vit_large_patch14_clip_224",
    "tf_efficientnet_lite0",
    "swin_tiny_patch4_window7_224",
    "densenet121",
]
SMALL = ["test_efficientnet", "test_resnet", "test_convnext", "test_mambaout", "vit_tiny_patch16_224"]


def pooled(model: Any, x: Tensor) -> Tensor:
    out: Tensor = model.forward_head(model.forward_features(x), pre_logits=True)
    return out


def chain(stages: list[Stage], x: Tensor) -> Tensor:
    for stage in stages:
        x = stage(x)
    return x


def small(name: str) -> tuple[Any, list[Stage]]:
    """A model with random weights and random BatchNorm statistics, and its stages."""
    torch.manual_seed(0)
    model = create(name, 32).eval()
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return model, split(model)


@pytest.mark.parametrize("name", ON_META)
def test_a_backbone_is_a_chain_of_stages_that_hold_every_parameter_once(name: str) -> None:
    with torch.device("meta"):
        model = create(name, None).eval()
        stages = split(model)
        x = torch.zeros(2, *timm.get_pretrained_cfg(name).input_size)
        assert chain(stages, x).shape == pooled(model, x).shape
    for kind in (nn.Module.named_parameters, nn.Module.named_buffers):
        names = [n.removeprefix("graph.model.") for stage in stages for n, _ in kind(stage)]
        assert sorted(names) == sorted(n for n, _ in kind(model))
    held = [id(parameter) for stage in stages for parameter in stage.parameters()]
    assert len(held) == len(set(held))
    assert set(held) == {id(parameter) for parameter in model.parameters()}
    assert all(next(stage.parameters(), None) is not None for stage in stages)


@pytest.mark.parametrize("name", SMALL)
def test_the_chain_of_stages_computes_what_timm_computes(name: str) -> None:
    model, stages = small(name)
    x = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(chain(stages, x), pooled(model, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext"])
def test_the_chain_has_the_gradients_of_the_model(name: str) -> None:
    model, stages = small(name)
    model.train()
    x = torch.randn(4, 3, 32, 32)
    chain([stage.train() for stage in stages], x).square().sum().backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    pooled(model, x).square().sum().backward()
    assert set(found) == {n for n, p in model.named_parameters() if p.grad is not None}
    for n, p in model.named_parameters():
        torch.testing.assert_close(found.get(n), p.grad, atol=1e-4, rtol=1e-4)


def test_what_stands_between_the_last_block_and_the_head_belongs_to_the_last_stage() -> None:
    model = create("test_efficientnet", 32)
    last = {id(parameter) for parameter in split(model)[-1].parameters()}
    assert {id(model.conv_head.weight), id(model.bn2.weight)} <= last


@pytest.mark.parametrize("name", [*SMALL, "convnext_base", "densenet121"])
def test_no_stage_consists_of_norms_alone(name: str) -> None:
    with torch.device("meta"):
        stages = split(create(name, None))
    assert all(any(parameter.ndim > 1 for parameter in stage.parameters()) for stage in stages)


def frozen_stage() -> Stage:
    stage = small("test_efficientnet")[1][1]
    stage.train()
    stage.freeze(True)
    return stage


@pytest.mark.parametrize("who", ["the stage", "a module above", "a list above", "nobody"])
def test_a_frozen_stage_stays_in_eval_mode_when_it_or_its_parent_is_told_to_train(who: str) -> None:
    stage = frozen_stage()
    if who == "the stage":
        stage.train()
    elif who == "a module above":
        nn.Sequential(nn.Sequential(stage)).train()
    elif who == "a list above":
        nn.ModuleList([stage]).train()
    assert not any(module.training for module in stage.modules())
    assert not any(parameter.requires_grad for parameter in stage.parameters())


def test_a_frozen_stage_keeps_its_batchnorm_statistics_through_training_passes() -> None:
    stage = frozen_stage()
    before = {name: tensor.clone() for name, tensor in stage.state_dict().items()}
    nn.Sequential(stage).train()(torch.randn(4, 24, 16, 16))
    assert all(torch.equal(tensor, before[name]) for name, tensor in stage.state_dict().items())


def test_a_stage_that_is_not_frozen_does_follow_its_parent_and_updates_its_statistics() -> None:
    stage = frozen_stage()
    stage.freeze(False)
    before = {name: tensor.clone() for name, tensor in stage.named_buffers()}
    nn.Sequential(stage).train()(torch.randn(4, 24, 16, 16))
    assert all(module.training for module in stage.modules())
    assert all(parameter.requires_grad for parameter in stage.parameters())
    assert not any(torch.equal(tensor, before[name]) for name, tensor in stage.named_buffers())
    nn.Sequential(stage).eval()
    assert not any(module.training for module in stage.modules())


class Skipping(nn.Module):
    """A model whose second stage needs the input of the first one too."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)

    def group_matcher(self, coarse: bool) -> dict[str, str]:
        return {"stem": r"^one", "blocks": r"^two"}

    def forward_features(self, x: Tensor) -> Tensor:
        y = torch.relu(self.one(x))
        out: Tensor = self.two(y) + (y if self.chained else torch.cos(x))
        return out

    def forward_head(self, x: Tensor, pre_logits: bool) -> Tensor:
        return x

    chained = False


def test_a_model_that_is_no_chain_is_refused() -> None:
    with pytest.raises(BackboneError, match="two values cross a stage boundary"):
        split(Skipping())


def test_a_skip_connection_within_a_stage_is_no_obstacle() -> None:
    torch.manual_seed(0)
    model = Skipping()
    model.chained = True
    x = torch.randn(2, 3)
    torch.testing.assert_close(chain(split(model), x), model.forward_features(x))


def test_a_model_that_cannot_be_traced_is_refused_with_advice() -> None:
    with pytest.raises(BackboneError, match=r"VisionTransformer cannot be cut into stages.*choose another"):
        split(create("test_vit", 160))


def test_an_unknown_name_is_refused_with_similar_ones() -> None:
    with pytest.raises(BackboneError, match=r"timm knows no 'resnet51'; similar: .*resnet") as caught:
        create("resnet51", 32)
    assert "backbone.name" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("efficientnt_b0", "efficientnet_b0"), ("vit_bas_patch16_224", "vit_base_patch16_224"),
     ("convnext-base", "convnext_base"), ("resnet5", "resnet50")],
)  # fmt: skip
def test_a_misspelt_name_is_answered_with_the_one_that_was_meant(name: str, meant: str) -> None:
    with pytest.raises(BackboneError) as caught:
        create(name, 32)
    assert f"'{meant}'" in str(caught.value)


@pytest.mark.parametrize("name", ["test_efficientnet", "vit_tiny_patch16_224"])
def test_weights_of_a_file_arrive_in_the_model(name: str, weights_of: Callable[[str], Path]) -> None:
    path = weights_of(name)
    given = load_file(path)
    found = create(name, 224, str(path)).state_dict()
    assert len(found) > 50
    assert all(torch.equal(tensor, given[n]) for n, tensor in found.items())


def test_weights_of_another_shape_are_refused(weights_of: Callable[[str], Path]) -> None:
    path = str(weights_of("test_resnet"))
    with pytest.raises(BackboneError, match="does not fit test_efficientnet"):
        create("test_efficientnet", 32, path)


@pytest.mark.parametrize(
    ("name", "naming"),
    [
        ("test_resnet", "encoder.{}"),
        ("test_convnext", "encoder.{}"),
        ("test_mambaout", "encoder.{}"),
    ],
)
def test_weights_under_strange_names_are_refused_and_not_left_at_random(
    tmp_path: Path, weights_of: Callable[[str], Path], name: str, naming: str
) -> None:
    state = load_file(weights_of(name))
    save_file({naming.format(key): tensor for key, tensor in state.items()}, tmp_path / "w.safetensors")
    with pytest.raises(BackboneError, match=f"does not fit {name}"):
        create(name, 32, str(tmp_path / "w.safetensors"))


def test_weights_saved_from_a_data_parallel_training_arrive_in_the_model(
    tmp_path: Path, weights_of: Callable[[str], Path]
) -> None:
    state = load_file(weights_of("test_resnet"))
    save_file({f"module.{key}": tensor for key, tensor in state.items()}, tmp_path / "w.safetensors")
    found = create("test_resnet", 32, str(tmp_path / "w.safetensors")).state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in found.items())


def test_weights_that_lack_a_tensor_are_refused_by_its_name(
    tmp_path: Path, weights_of: Callable[[str], Path]
) -> None:
    state = load_file(weights_of("test_resnet"))
    del state["bn1.running_var"]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(BackboneError, match=r"1 tensors are missing, among them \['bn1\.running_var'\]"):
        create("test_resnet", 32, str(tmp_path / "w.safetensors"))


def test_weights_without_a_classifier_are_enough(tmp_path: Path, weights_of: Callable[[str], Path]) -> None:
    state = load_file(weights_of("test_resnet"))
    headless = {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}
    assert len(headless) < len(state)
    save_file(headless, tmp_path / "w.safetensors")
    found = create("test_resnet", 32, str(tmp_path / "w.safetensors")).state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in found.items())


def test_weights_that_are_no_safetensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"this is no safetensors file")
    with pytest.raises(BackboneError):
        create("test_resnet", 32, str(tmp_path / "w.safetensors"))


def test_only_a_transformer_is_built_for_one_image_size() -> None:
    assert takes_img_size("vit_tiny_patch16_224")
    assert takes_img_size("swin_tiny_patch4_window7_224")
    assert not takes_img_size("resnet50")
    assert create("vit_tiny_patch16_224", 64).pos_embed.shape[1] == 1 + (64 // 16) ** 2
