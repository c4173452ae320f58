"""Which words an answer rests on: gradient times input at the embeddings (Shrikumar et al. 2016)."""

import torch
from markupsafe import Markup, escape
from torch import Tensor

from steps.core.backbones.network import Network
from steps.core.modalities.text.tokens import Preprocessing, open_tokenizer, read_text

FAINT = 0.05  # of the strongest word: less is not shown


def attribute(network: Network, preprocessing: Preprocessing, view: Tensor) -> Tensor:
    """Return how much each token of a view (t,) speaks for the network's answer: (t,), 0 to 1."""
    network.eval()
    numbers = preprocessing.batch([view], network.device)
    with torch.no_grad():
        x = network.run(numbers, 0, 1)
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(network(x, 1).max(), x)
    heat = (gradient * x.detach())[0, :, :-1].sum(dim=1).clamp(min=0)
    heat = heat * (numbers[0] != preprocessing.padding)
    top = heat.max()
    return heat / top if top > 0 else heat


def highlighted(data: bytes, preprocessing: Preprocessing, heat: Tensor) -> str:
    """Return a text as HTML, its words the redder the more they speak for the answer."""
    text = read_text(data)
    tokens = open_tokenizer(preprocessing.tokenizer, preprocessing.max_length).encode(text)
    parts, end = [], 0
    for (start, stop), share in zip(tokens.offsets, heat.tolist(), strict=False):
        if stop <= start:
            continue
        parts.append(escape(text[end:start]))
        colour = f"rgba(220, 38, 38, {0.6 * share:.2f})" if share >= FAINT else "transparent"
        parts.append(Markup('<span style="background: {}">{}</span>').format(colour, text[start:stop]))
        end = stop
    return Markup('<span class="sample">{}</span>').format(Markup("").join([*parts, escape(text[end:])]))
