"""Texts as they come in production: with typos, shouted, without punctuation, cut, words left out."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from steps.core.modalities.contract import Corruption
from steps.core.modalities.text.tokens import Preprocessing

LETTERS = "abcdefghijklmnopqrstuvwxyz"
Change = Callable[[str, float, torch.Generator], str]


def corruptions(
    preprocessing: Preprocessing,
) -> Mapping[str, tuple[Corruption, tuple[float, float, float]]]:
    """Return what can be done to a view, by name; a view is read back, changed and tokenised again."""

    def on_words(change: Change) -> Corruption:
        def changed(view: Tensor, strength: float, generator: torch.Generator) -> Tensor:
            text = change(preprocessing.text_of(view), strength, generator)
            return preprocessing.view(text) if text.strip() else view

        return changed

    return {
        "typos": (on_words(typos), (0.02, 0.05, 0.1)),
        "words left out": (on_words(leave_out), (0.1, 0.2, 0.4)),
        "cut short": (on_words(cut_short), (0.25, 0.5, 0.75)),
        "no punctuation": (on_words(unmarked), (1.0, 1.0, 1.0)),
        "capitals": (on_words(shouted), (1.0, 1.0, 1.0)),
    }


def chances(count: int, generator: torch.Generator) -> list[float]:
    """Draw numbers from 0 to 1."""
    drawn: list[float] = torch.rand(count, generator=generator).tolist()
    return drawn


def typos(text: str, share: float, generator: torch.Generator) -> str:
    """Replace, double, swap or drop a share of the letters."""
    found: list[str] = []
    for letter, hit, kind in zip(
        text, chances(len(text), generator), chances(len(text), generator), strict=True
    ):
        if hit >= share or not letter.isalpha():
            found.append(letter)
        elif kind < 0.25:
            found.append(letter * 2)
        elif kind < 0.5 and found:
            found.insert(-1, letter)
        elif kind < 0.75:
            found.append(LETTERS[int((kind - 0.5) * 4 * len(LETTERS))])
    return "".join(found)


def leave_out(text: str, share: float, generator: torch.Generator) -> str:
    """Leave out a share of the words."""
    words = text.split()
    kept = [
        word for word, chance in zip(words, chances(len(words), generator), strict=True) if chance >= share
    ]
    return " ".join(kept)


def cut_short(text: str, share: float, generator: torch.Generator) -> str:
    """Leave out a share of the words at the end."""
    words = text.split()
    return " ".join(words[: max(1, round(len(words) * (1 - share)))])


def unmarked(text: str, share: float, generator: torch.Generator) -> str:
    """Leave out everything but letters, digits and space."""
    return "".join(letter for letter in text if letter.isalnum() or letter.isspace())


def shouted(text: str, share: float, generator: torch.Generator) -> str:
    """Write all of it in capitals."""
    return text.upper()
