"""A text file, such as a table that a spreadsheet has saved: its encoding, and what divides its cells."""

import csv
import io
from collections.abc import Iterator
from itertools import islice

from steps.core.system.errors import DataError

DELIMITERS = (",", ";", "\t")  # `|` stands between the labels of a set
LOOKED_AT = 100  # lines from which the delimiter is told
GUESSED_FROM = 1_000_000  # bytes of lines that are not ASCII, from which an encoding is told
SAME = 0.05  # mess and likeness to a language, 0 to 1, that two encodings of one text may differ in
MAX_MESS = 0.15  # above which a text is nonsense in any encoding
MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def decode_text(data: bytes) -> tuple[str, str]:
    """Return the text, and its encoding if that is none of UTF-8, ASCII ('' if it is).

    Raises:
        DataError: It is no text, or may be read in more than one way.
    """
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "")
    encoding = encoding or wide_encoding(data) or "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise DataError(f"it begins like {encoding.upper()}, and is not: {error}") from None
        encoding = likely_encoding(data, str(error))
        text = data.decode(encoding)
    if "\0" in text:
        raise DataError("it holds zero bytes, and is no text")
    return text, "" if encoding.startswith("utf-8") else encoding.upper()


def wide_encoding(data: bytes) -> str:
    """Return UTF-16 of either order where every other byte is zero, as of Latin letters; else ''."""
    head = data[: 2 * LOOKED_AT]
    if len(head) < 4 or len(data) % 2:
        return ""
    zeros = [half.count(0) / len(half) for half in (head[::2], head[1::2])]
    if max(zeros) < 0.9 or min(zeros) > 0.1:
        return ""
    return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"


def likely_encoding(data: bytes, problem: str) -> str:
    """Return the one encoding in which a text of single bytes is words of a language.

    Raises:
        DataError: There is none, or there are several in which it reads otherwise.
    """
    from charset_normalizer import from_bytes

    lines = b"\n".join(line for line in data.splitlines() if not line.isascii())[:GUESSED_FROM]
    found = sorted(from_bytes(lines), key=lambda match: (match.chaos, -match.coherence))
    found = [match for match in found if match.coherence > 0 and match.chaos <= MAX_MESS]
    if not found:
        raise DataError(problem)
    best = found[0]
    rivals = [
        match
        for match in found
        if match.chaos <= best.chaos + SAME and match.coherence >= best.coherence - SAME
    ]
    readings = {str(match): match.encoding for match in reversed(rivals)}
    if len(readings) > 1:
        shown = " or ".join(f"{first_words(words)!r} ({name})" for words, name in list(readings.items())[-3:])
        raise DataError(f"its encoding cannot be told: it reads {shown}")
    try:
        data.decode(best.encoding)
    except UnicodeDecodeError:
        raise DataError(problem) from None
    return str(best.encoding)


def first_words(text: str) -> str:
    """Return the first line of a text, shortened."""
    return next(iter(text.splitlines()), "")[:40]


def delimiter_of(text: str) -> str:
    """Return what stands between the cells of a table: `,`, `;` or a tab.

    Raises:
        DataError: More than one of them would do.
    """
    widths = {mark: [len(row) for row in first_rows(text, mark)] for mark in DELIMITERS}
    able = [mark for mark, found in widths.items() if found and found[0] > 1]
    if len(able) > 1:
        able = [mark for mark in able if set(widths[mark]) == {widths[mark][0]}] or able
    if len(able) > 1:
        raise DataError(f"its cells may be divided by any of {able}: leave one of them")
    return able[0] if able else DELIMITERS[0]


def first_rows(text: str, delimiter: str) -> Iterator[list[str]]:
    """Yield the first rows that are not empty, as far as they can be read."""
    rows = csv.reader(io.StringIO(text[:GUESSED_FROM], newline=""), delimiter=delimiter)
    try:
        yield from islice((row for row in rows if row), LOOKED_AT)
    except csv.Error:  # of a cell that is too long; the parser says it better
        return
