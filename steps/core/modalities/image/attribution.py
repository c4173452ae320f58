"""Where the network looks: Grad-CAM (Selvaraju et al. 2017)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from steps.core.backbones.network import Network
from steps.core.modalities.image.pixels import Preprocessing


def grad_cam(network: Network, preprocessing: Preprocessing, view: Tensor) -> Tensor:
    """Return how much each place of a view (3, side, side) speaks for the answer: (side, side), 0 to 1.

    The map is taken at the deepest boundary that all of what the head reads depends on and that still has
    places: a map of channels, else the pixels.
    """
    network.eval()
    x = preprocessing.batch([view], network.device)
    with torch.no_grad():
        deepest, at = x, 0
        for number in range(network.readout.first + 1):
            x = network.run(x, number, number + 1)
            if x.ndim == 4 and min(x.shape[1:] if network.layout == "channels_last" else x.shape[2:]) > 1:
                deepest, at = x, number + 1
    deepest = deepest.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(network(deepest, at).max(), deepest)
    if network.layout == "channels_last" and at:
        deepest, gradient = (t.permute(0, 3, 1, 2) for t in (deepest, gradient))
    weights = gradient.mean(dim=(2, 3), keepdim=True) if at else gradient
    heat = (weights * deepest.detach()).sum(dim=1, keepdim=True)
    heat = heat.clamp(min=0) if at else heat.abs()
    heat = F.interpolate(heat, size=view.shape[1:], mode="bilinear")[0, 0]
    top = heat.max()
    return heat / top if top > 0 else heat
