"""Who may ask a server: this machine, or whoever has the token; and how long they may take to ask."""

import asyncio
import base64
import binascii
import ipaddress
import os
import secrets

import h11
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from steps.core.system.errors import ParamsError

TOKEN = "HEADSTART_SERVE_TOKEN"
SHORTEST = 16  # characters
OWN_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]")


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
    app.add_middleware(TokenMiddleware, token=token)


class TokenMiddleware:
    """Lets requests through that have the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "lifespan":
            given = token_of(Headers(scope=scope).get("authorization", ""))
            if not secrets.compare_digest(given.encode(), self.token):
                answer = PlainTextResponse("a token is needed\n", 401, {"WWW-Authenticate": "Basic"})
                return await answer(scope, receive, send)
        await self.app(scope, receive, send)


def trust_own_hosts(app: FastAPI) -> None:
    """Answer only to this machine's own names: a page of another name may have been bound to its address."""
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*OWN_NAMES], www_redirect=False)


def impatient(seconds: float) -> type[H11Protocol]:
    """Return uvicorn's protocol with a time-out: a connection whose headers take longer is closed."""

    class ImpatientProtocol(H11Protocol):
        """Waits for headers for a while only."""

        waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            """Begin to wait."""
            super().connection_made(transport)
            self.watch()

        def data_received(self, data: bytes) -> None:
            """Wait on, or no longer."""
            super().data_received(data)
            self.watch()

        def watch(self) -> None:
            """Start the clock at the first byte of headers, stop it at their end."""
            idle = self.conn.their_state is h11.IDLE
            if idle and self.waiting is None:
                self.waiting = self.loop.call_later(seconds, self.transport.close)
            elif not idle and self.waiting is not None:
                self.waiting.cancel()
                self.waiting = None

        def connection_lost(self, error: Exception | None) -> None:
            """Stop the clock."""
            super().connection_lost(error)
            if self.waiting is not None:
                self.waiting.cancel()

    return ImpatientProtocol


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
