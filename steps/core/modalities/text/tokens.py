"""From bytes to token numbers: reading a text, its views, and what enters an encoder.

A sample is a string; a view is int64 of shape (t,): the numbers of its tokens, filled up to a multiple of
LENGTH_STEP. View 0 of a sample is deterministic; view k > 0 is drawn from a seed that depends on the run's
seed, the sample's content and k alone.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Self

import torch
from tokenizers import Tokenizer
from torch import Tensor

from steps.core.backbones.ragged import rounded_length
from steps.core.system.errors import DataError

CELL = "text"
"""The key under which a row of a table is a text; see `steps.core.data.rows`."""


@dataclass(frozen=True)
class Preprocessing:
    """How a text becomes an encoder's input; a model's tokenizer is part of the model."""

    tokenizer: str
    """The tokenizer's file (tokenizer.json), packed; see `packed`."""
    config: str
    """The encoder's config.json, as text."""
    max_length: int
    """Tokens, the special ones included, beyond which a text is cut."""
    typical_length: int
    """Tokens of the example by which costs are counted."""
    mask: int
    """Number of the token that stands for one left out."""
    padding: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain json types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Undo `to_dict`."""
        return cls(**fields)

    @property
    def facts(self) -> dict[str, Any]:
        """The encoder's config.json."""
        found: dict[str, Any] = json.loads(self.config)
        return found

    def example(self) -> Tensor:
        """Return a view of a text of typical length."""
        return torch.full((rounded_length(self.typical_length),), self.mask)

    def decode(self, data: bytes) -> str:
        """Read a cell of a table or a file; see `read_text`."""
        return read_text(data)

    def numbers(self, text: str) -> list[int]:
        """Return the numbers of a text's tokens, special ones included, without padding."""
        found: list[int] = open_tokenizer(self.tokenizer, self.max_length).encode(text).ids
        return found

    def text_of(self, view: Tensor) -> str:
        """Return what a view says, as far as its tokens tell."""
        found: str = open_tokenizer(self.tokenizer, self.max_length).decode(view.tolist())
        return found

    def view(self, sample: str) -> Tensor:
        """Return the deterministic view."""
        return self.filled(self.numbers(sample))

    def filled(self, numbers: Sequence[int]) -> Tensor:
        """Return token numbers with padding behind them."""
        short = rounded_length(len(numbers)) - len(numbers)
        return torch.tensor([*numbers, *[self.padding] * short])

    def batch(self, views: Sequence[Tensor], device: torch.device) -> Tensor:
        """Return token numbers, int64 (n, t), shorter views filled up to the longest."""
        together = torch.nn.utils.rnn.pad_sequence(
            list(views), batch_first=True, padding_value=float(self.padding)
        )
        return together.to(device)


@dataclass(frozen=True)
class Views:
    """The text as it is, and with some of its tokens masked; see `steps.core.modalities.parts.Views`."""

    preprocessing: Preprocessing
    token_dropout: float
    seed: int

    @property
    def seeded(self) -> bool:
        """Whether other views differ from the deterministic one."""
        return self.token_dropout > 0

    def read(self, data: bytes) -> str:
        """Read a text."""
        return read_text(data)

    def view(self, sample: str, sha256: str, number: int) -> Tensor:
        """Return one view; 0 is the deterministic one."""
        plain = self.preprocessing.numbers(sample)
        if number == 0:
            return self.preprocessing.filled(plain)
        digest = hashlib.sha256(f"{self.seed}/{sha256}/{number}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        numbers = torch.tensor(plain)
        dropped = torch.rand(len(plain), generator=generator) < self.token_dropout
        dropped[[0, -1]] = False  # the special tokens at both ends
        return self.preprocessing.filled(numbers.masked_fill(dropped, self.preprocessing.mask).tolist())

    def key(self, count: int) -> dict[str, Any]:
        """Return all that the deterministic view and `count` seeded ones depend on."""
        drawn = {"token_dropout": self.token_dropout, "seed": self.seed} if count else {}
        return {"preprocessing": self.preprocessing.to_dict(), **drawn}

    def describe(self) -> dict[str, Any]:
        """Return what a cache's metadata holds."""
        return {
            "preprocessing": self.preprocessing.to_dict(),
            "token_dropout": self.token_dropout,
            "seed": self.seed,
        }

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> "Views":
        """Undo `describe`."""
        return cls(Preprocessing.from_dict(meta["preprocessing"]), meta["token_dropout"], meta["seed"])

    @classmethod
    def deterministic(cls, preprocessing: Preprocessing) -> "Views":
        """Return views of which only the deterministic one is used."""
        return cls(preprocessing, 0.0, 0)


def packed(tokenizer: bytes) -> str:
    """Return a tokenizer's file as a short text: half a megabyte of json becomes a quarter."""
    return base64.b85encode(zlib.compress(tokenizer, 9)).decode()


@lru_cache(maxsize=8)
def open_tokenizer(text: str, max_length: int) -> Tokenizer:
    """Load a tokenizer that cuts at `max_length` tokens and fills nothing up."""
    found = Tokenizer.from_str(zlib.decompress(base64.b85decode(text)).decode())
    found.no_padding()
    found.enable_truncation(max_length)
    return found


def read_text(data: bytes) -> str:
    """Return the text of a .txt file in UTF-8, or of a row of a table.

    Raises:
        DataError: It is not UTF-8, holds control characters, or says nothing.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 ({error.reason} at byte {error.start})") from None
    cell = cell_of(text)
    text = text if cell is None else cell
    if "\x00" in text:
        raise DataError("holds a zero character: not a text")
    if not text.strip():
        raise DataError("an empty text")
    return text


def cell_of(text: str) -> str | None:
    """Return the text of a row of a table, which comes as json; None of anything else."""
    if not text.startswith("{"):
        return None
    try:
        row = json.loads(text)
    except ValueError:
        return None
    if not isinstance(row, dict) or len(row) != 1:
        return None
    (cell,) = row.values()
    return "" if cell is None else str(cell)
