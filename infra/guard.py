"""Who may ask a server: this machine, or whoever has the token."""

import base64
import binascii
import ipaddress
import os
import secrets

from fastapi import FastAPI, Request
from starlette.middleware.base import RequestResponseEndpoint
from starlette.responses import PlainTextResponse, Response

from steps.core.system.errors import ParamsError

TOKEN = "HEADSTART_SERVE_TOKEN"
SHORTEST = 16  # characters


def only_here(host: str) -> bool:
    """Say whether an address is this machine's own, which nobody else can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def token_for(host: str) -> str | None:
    """Return the token that must be asked for at an address; None on this machine alone, if none is set.

    Raises:
        ParamsError: Others could ask, and nothing would keep them out.
    """
    token = os.environ.get(TOKEN) or None
    if token is not None and len(token) < SHORTEST:
        raise ParamsError(f"{TOKEN} has {len(token)} characters, expected {SHORTEST} at least")
    if token is None and not only_here(host):
        raise ParamsError(
            f"--host {host} can be reached from other machines: set {TOKEN} to a token that callers must "
            "send (Authorization: Bearer TOKEN, or as the password of any user), or leave --host out"
        )
    return token


def guard(app: FastAPI, token: str) -> None:
    """Answer 401 to every request without the token."""

    @app.middleware("http")
    async def ask(request: Request, call: RequestResponseEndpoint) -> Response:
        token_given = token_of(request.headers.get("authorization", ""))
        if not secrets.compare_digest(token_given.encode(), token.encode()):
            return PlainTextResponse("a token is needed\n", 401, {"WWW-Authenticate": "Basic"})
        return await call(request)


def token_of(header: str) -> str:
    """Return the token of a request: the bearer's, or the password of a browser's question."""
    kind, _, words = header.partition(" ")
    if kind.lower() == "bearer":
        return words.strip()
    try:
        return (
            base64.b64decode(words, validate=True).decode().partition(":")[2]
            if kind.lower() == "basic"
            else ""
        )
    except (binascii.Error, UnicodeDecodeError):
        return ""
