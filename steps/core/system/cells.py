"""Cells of tables that a person opens in a spreadsheet, which would run a text that begins like a formula."""

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
QUOTE = "'"


def quoted(text: str) -> str:
    """Return a text as a cell that is shown and not run: an apostrophe before what might be a formula."""
    return QUOTE + text if text.startswith(FORMULAS) else text


def unquoted(text: str) -> str:
    """Undo `quoted`, whether the spreadsheet has kept the apostrophe or not."""
    return text[1:] if text.startswith(QUOTE) and text[1:].startswith(FORMULAS) else text
