import pytest
import torch

from steps.core.evaluation.robustness import robustness
from steps.core.modalities.image.attribution import grad_cam
from steps.core.modalities.image.corruptions import CORRUPTIONS
from tests.core.toys import LABELS, PREPROCESSING, BrightestChannelModel, build, picture

VIEWS = [torch.from_numpy(picture(n, 32, 32, n % 3).copy()).permute(2, 0, 1) for n in range(6)]
TRUTH = [LABELS.index(["red", "green", "blue"][n % 3]) for n in range(6)]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_stronger_corruption_changes_more(name: str) -> None:
    change, strengths = CORRUPTIONS[name]
    gaps = []
    for strength in strengths:
        worse = change(VIEWS[0], strength, torch.Generator().manual_seed(0))
        assert (worse.dtype, worse.shape) == (torch.uint8, VIEWS[0].shape)
        gaps.append((worse.float() - VIEWS[0].float()).abs().mean().item())
    assert 0 < gaps[0] < gaps[1] < gaps[2]


def test_the_drop_is_from_the_accuracy_on_the_same_pictures() -> None:
    seer = BrightestChannelModel()
    rows = robustness(seer.network(), seer.preprocessing, CORRUPTIONS, VIEWS, TRUTH, 0)
    assert len(rows) == 15
    assert all(row["accuracy"] + row["drop"] == pytest.approx(1.0) for row in rows)
    assert rows == robustness(seer.network(), seer.preprocessing, CORRUPTIONS, VIEWS, TRUTH, 0)


@pytest.mark.parametrize("name", ["test_resnet", "vit_tiny_patch16_224"])
def test_saliency_is_a_map_of_the_view(name: str) -> None:
    network = build(name)
    network.freeze(len(network.stages))
    heat = grad_cam(network, PREPROCESSING, VIEWS[0])
    assert heat.shape == (32, 32)
    assert heat.min() >= 0
    assert heat.max() == pytest.approx(1.0, abs=1e-6)
    assert torch.equal(heat, grad_cam(network, PREPROCESSING, VIEWS[0]))
    assert all(p.grad is None for p in network.parameters())


def test_saliency_lies_where_the_answer_is_from() -> None:
    view = torch.full((3, 32, 32), 128, dtype=torch.uint8)  # grey: half of the range, so zero as input
    view[0, :, :8] = 255  # the class is where the red is
    seer = BrightestChannelModel()
    heat = grad_cam(seer.network(), seer.preprocessing, view)
    assert heat[:, :8].min() > 5 * heat[:, 8:].max()
