"""What a head reads: means and deviations of one stage or several, from any boundary they follow from."""

import pytest
import torch

from steps.core.backbones.network import Network
from steps.core.backbones.readout import Readout, deviation
from steps.core.system.errors import BackboneError
from tests.core.toys import image_network

NAMES = ["test_efficientnet", "test_convnext", "vit_tiny_patch16_224"]


def network_of(name: str, readout: Readout) -> Network:
    return image_network(name, 3, 32, readout=readout)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("readout", [Readout(2, 4, True), Readout(3, 4, True), Readout(1, 4, False)])
def test_the_vector_is_the_same_from_every_boundary_up_to_the_first_stage_that_is_read(
    name: str, readout: Readout
) -> None:
    network = network_of(name, readout)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = network.embed(x)
        assert whole.shape == (2, network.head.in_features)
        for start in range(readout.first + 2):
            h = network.run(x, 0, start)
            if start < readout.keep:
                assert torch.equal(network.embed(h, start), whole)
        assert torch.equal(network.embed(whole, readout.keep), whole), "at the top it is z already"


def test_what_lies_below_the_boundary_cannot_be_read() -> None:
    network = network_of("test_efficientnet", Readout(1, 4, True))
    h = network.run(torch.randn(1, 3, 32, 32), 0, 3)
    with pytest.raises(BackboneError, match="reads stage 1, which lies below boundary 3"):
        network.embed(h, 3)


def test_means_and_deviations_stand_in_the_order_of_the_stages() -> None:
    network = network_of("test_resnet", Readout(2, 4, True))
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        third = network.run(x, 0, 3).flatten(2)
        fourth = network.run(x, 0, 4).flatten(2)
        wanted = [third.mean(2), third.std(2, correction=0), fourth.mean(2), fourth.std(2, correction=0)]
        torch.testing.assert_close(network.embed(x), torch.cat(wanted, 1), atol=2e-4, rtol=1e-3)


def test_the_slope_of_a_deviation_is_finite_where_all_places_are_alike() -> None:
    flat = torch.zeros(1, 2, 4, 4, requires_grad=True)
    spread = deviation(flat, layout="channels_first")
    assert spread is not None
    spread.sum().backward()
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


def test_places_are_averaged_wherever_the_channels_are() -> None:
    maps = torch.randn(2, 5, 3, 4)
    spread = deviation(maps, layout="channels_first")
    turned = deviation(maps.permute(0, 2, 3, 1), layout="channels_last")
    assert spread is not None
    assert turned is not None
    torch.testing.assert_close(spread, turned)
    assert deviation(torch.randn(2, 5), layout="channels_first") is None


def test_a_cut_reads_what_is_left_of_what_its_whole_reads() -> None:
    network = network_of("test_efficientnet", Readout(2, 5, True))
    x = torch.randn(1, 3, 32, 32)
    for keep, first in ((4, 2), (3, 2), (2, 1)):
        cut = network.cut(keep, x)
        assert cut.readout == Readout(first, keep, True)
        assert len(cut.stages) == keep
        assert not cut(x).any(), "its head is zeros"
        with torch.inference_mode():
            assert torch.equal(cut.run(x, 0, keep), network.run(x, 0, keep))


def test_a_model_that_says_nothing_reads_the_top() -> None:
    assert Readout.of({"stages": 5}) == Readout(4, 5, False) == Readout.top(5)
    kept = Readout(1, 3, True)
    assert Readout.of({"stages": 3, "readout": kept.to_dict()}) == kept


@pytest.mark.parametrize("reading", [Readout(3, 3, True), Readout(-1, 3, True), Readout(0, 9, True)])
def test_stages_that_there_are_not_are_refused(reading: Readout) -> None:
    with pytest.raises(BackboneError, match=r"choose_strategy\.readout: .*0 <= first < keep <= 8"):
        reading.within(8)
