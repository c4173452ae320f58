"""How much two sets of files have in common, by a sketch of each that has a bounded size.

A set's sketch is its least SIZE digests (Broder 1997, "On the resemblance and containment of documents").
SHA-256 is as good as random, so below the lower of two sketches' ends both are known in full, and what
they share there estimates what they share at all. Sets of at most SIZE files are compared exactly.
"""

from collections.abc import Iterable

SIZE = 256  # digests: a share of one half is estimated with a standard error of 0.03
DIGITS = 12  # of each digest, hexadecimal


def sketch(digests: Iterable[str]) -> str:
    """Return the sketch of a set of SHA-256 digests: its size, a colon, and the least of them."""
    short = sorted({digest[:DIGITS] for digest in digests})
    return f"{len(short)}:{''.join(short[:SIZE])}"


def shared(one: str, other: str) -> float:
    """Return the share of the smaller set's members that are in the other, by their sketches."""
    sets = sorted((read(one), read(other)), key=lambda found: found[0])
    end = min((least[-1] for count, least in sets if count > SIZE), default="g")  # beyond every digit
    mine, others = ({digest for digest in least if digest <= end} for _, least in sets)
    return len(mine & others) / len(mine) if mine else 0.0


def read(text: str) -> tuple[int, list[str]]:
    """Return the size of a set, and the digests that its sketch holds, in rising order."""
    count, _, digits = text.partition(":")
    return int(count), [digits[place : place + DIGITS] for place in range(0, len(digits), DIGITS)]
