"""Bytes inside a page: it needs no other file."""

import base64


def png_uri(data: bytes) -> str:
    """Put the bytes of a PNG file into a URI."""
    return "data:image/png;base64," + base64.b64encode(data).decode()
