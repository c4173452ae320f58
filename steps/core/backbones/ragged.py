"""Samples of unequal length: views of one shape go through the network together, and no padding is kept.

A view of such a sample is as long as its tokens, rounded up to LENGTH_STEP: what a stage makes of it then
depends on the sample alone, not on the longest one beside it, and few shapes occur. A boundary's value of a
sample (t, c + 1) has 1 in its last channel where there is a token; see `steps.core.backbones.readout.Layout`.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LENGTH_STEP = 16
FULL_LENGTH = 64  # tokens from which on a sample keeps a processor as busy as an image does


def rounded_length(tokens: int) -> int:
    """Return how long the view of a sample with so many tokens is."""
    return max(1, -(-tokens // LENGTH_STEP)) * LENGTH_STEP


def samples_together(view: Tensor, micro_batch: int) -> int:
    """Return how many views of one shape enter at once: of short texts more than `micro_batch`."""
    if view.is_floating_point() or view.ndim > 1:
        return micro_batch
    return micro_batch * max(1, FULL_LENGTH // len(view))


def in_batches_of_one_shape(
    views: Iterable[Tensor], micro_batch: int
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Yield views of one shape with their numbers; in order where all are alike. See `samples_together`."""
    waiting: dict[torch.Size, tuple[list[int], list[Tensor]]] = {}
    for number, view in enumerate(views):
        numbers, batch = waiting.setdefault(view.shape, ([], []))
        numbers.append(number)
        batch.append(view)
        if len(batch) == samples_together(view, micro_batch):
            yield waiting.pop(view.shape)
    yield from waiting.values()


def in_order(numbers: Sequence[int], rows: Tensor) -> Tensor:
    """Return rows that stand in the order of `numbers` in ascending order."""
    if list(numbers) == sorted(numbers):
        return rows
    return rows[torch.tensor(numbers).argsort()]


def pack(rows: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return rows (t, c + 1) behind each other: `h` (tokens, c), their `starts` and `lengths`."""
    parts = [row[: int(row[:, -1].sum()), :-1] for row in rows]
    lengths = torch.tensor([len(part) for part in parts])
    return {"h": torch.cat(parts), "starts": lengths.cumsum(0) - lengths, "lengths": lengths}


def unpack(h: Tensor, start: int, length: int) -> Tensor:
    """Return one row of `pack` (t, c + 1), float32, as long as its view."""
    tokens = h[start : start + length].float()
    marked = F.pad(tokens, (0, 1), value=1.0)
    return F.pad(marked, (0, 0, 0, rounded_length(len(tokens)) - len(tokens)))


def stack_padded(rows: Sequence[Tensor]) -> Tensor:
    """Stack samples along a new first axis; shorter ones get zeros at the end of their first."""
    longest = max(len(row) for row in rows)
    if all(len(row) == longest for row in rows):
        return torch.stack(list(rows))
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
