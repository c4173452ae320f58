"""The server of the champion: MLflow's scoring protocol within limits, and a page to try it.

A request that is refused, or whose client has left, costs little: the body's size is looked at before it is
read, the samples' sizes before they are decoded, and `serve.workers` requests are worked on at once.
"""

import asyncio
import json
import logging
import math
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment
from mlflow.version import VERSION
from starlette.responses import Response
from starlette.types import Message

from infra.champion import Champion, ChampionFollower
from infra.invocations import Refused, read_values
from steps.core.system.errors import DataError
from steps.runtime.params import Serve

PAGE = Path(__file__).with_name("serve.html")
VERSION_HEADER = "X-Model-Version"
CODES = {400: "BAD_REQUEST", 408: "TIMEOUT", 413: "TOO_LARGE", 415: "UNSUPPORTED", 499: "CLIENT_LEFT",
         500: "INTERNAL_ERROR", 503: "TEMPORARILY_UNAVAILABLE"}  # fmt: skip

log = logging.getLogger("headstart")


def make_app(follower: ChampionFollower, limits: Serve) -> FastAPI:
    """Return the server; while it runs, it follows the champion."""

    @asynccontextmanager
    async def following(app: FastAPI) -> AsyncIterator[None]:
        ended = threading.Event()
        args = (limits.follow_seconds, ended)
        threading.Thread(target=follower.follow, args=args, daemon=True).start()
        yield
        ended.set()

    app = FastAPI(lifespan=following, docs_url=None, redoc_url=None, openapi_url=None)
    requests = Requests(follower, limits)
    app.post("/invocations")(requests.answer)

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        template = Environment(autoescape=True).from_string(PAGE.read_text(encoding="utf-8"))
        modality = follower.current.deployed.modality.name
        return template.render(name=follower.registry.name, modality=modality)

    @app.get("/ping")
    @app.get("/health")
    async def ping() -> Response:
        return Response("\n", media_type="application/json", headers=version_header(follower.current))

    @app.get("/version")
    async def version() -> Response:
        return Response(VERSION, media_type="application/json")

    return app


class Requests:
    """Answers requests, each with the champion that is current when its turn comes."""

    def __init__(self, follower: ChampionFollower, limits: Serve) -> None:
        self.follower, self.limits = follower, limits
        self.turn = asyncio.Semaphore(limits.workers)
        self.inside = 0

    async def answer(self, request: Request) -> Response:
        """Return predictions, or why there are none; the log has a line of each."""
        begun, champion, headers = time.monotonic(), self.follower.current, {}
        try:
            champion, answers = await self.admit(request)
            status, content = 200, {"predictions": answers}
        except Refused as error:
            status, content = error.status, refusal(error.status, str(error))
            headers = {"Retry-After": "1"} if status == 503 else {}
        except Exception:
            log.exception("a request failed")
            status, content = 500, refusal(500, "the server failed; its log says how")
        took = 1000 * (time.monotonic() - begun)
        rows = len(content.get("predictions", ()))
        log.info("invocations: %d, %d samples, version %s, %.0f ms", status, rows, champion.version, took)
        headers |= version_header(champion)
        return Response(json.dumps(content), status, headers, "application/json")

    async def admit(self, request: Request) -> tuple[Champion, list[dict[str, Any]]]:
        """Read the body and answer it, if there is room; the turn ends when the work has."""
        if self.inside >= self.limits.workers + self.limits.queue:
            raise Refused(503, "too many requests at once: try again")
        self.inside += 1
        try:
            body = await self.read_body(request)
            async with self.turn:
                return await self.work(request, body)
        finally:
            self.inside -= 1

    async def read_body(self, request: Request) -> bytes:
        """Return the body.

        Raises:
            Refused: It is larger than allowed, or does not arrive in time.
        """
        most = int(self.limits.max_megabytes * 1e6)
        too_large = Refused(413, f"the body is larger than {self.limits.max_megabytes:g} MB")
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.read_seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            raise Refused(408, f"the body did not arrive in {self.limits.read_seconds:g} s") from None
        return bytes(body)

    async def work(self, request: Request, body: bytes) -> tuple[Champion, list[dict[str, Any]]]:
        """Predict in a thread, which ends at the next sample when the client has left."""
        gone = threading.Event()
        watch = asyncio.ensure_future(client_left(request, gone))
        try:
            content_type = request.headers.get("content-type", "")
            return await asyncio.to_thread(self.predict, body, content_type, gone)
        finally:
            gone.set()
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    def predict(
        self, body: bytes, content_type: str, gone: threading.Event
    ) -> tuple[Champion, list[dict[str, Any]]]:
        """Return the champion and its answers to all samples of a request."""
        champion = self.follower.current
        deployed, name = champion.deployed, champion.deployed.modality.name
        values = read_values(body, content_type, name)
        if len(values) > self.limits.max_rows:
            raise Refused(413, f"{len(values)} samples, more than {self.limits.max_rows}")
        samples, left, answers = [], self.limits.max_size, []
        number = 0
        try:
            for number, value in enumerate(values):
                samples.append(deployed.modality.from_request(value))
                left -= math.prod(deployed.graph.size(samples[-1]))
                if left < 0:
                    raise Refused(413, f"{name} {number}: more than {self.limits.max_size} in all")
            for number, sample in enumerate(samples):  # noqa: B007 # the number is told where it fails
                if gone.is_set():
                    raise Refused(499, "the client has left")
                answers.append(deployed.answer(sample))
        except DataError as error:
            raise Refused(400, f"{name} {number}: {error}") from None
        except MemoryError:
            raise Refused(503, "not enough memory: try again, or send less") from None
        return champion, answers


async def client_left(request: Request, gone: threading.Event) -> None:
    """Set the event when the client closes the connection."""
    message: Message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await request.receive()
    gone.set()


def refusal(status: int, message: str) -> dict[str, Any]:
    """Return an error as MLflow's clients read it."""
    return {"error_code": CODES[status], "message": message}


def version_header(champion: Champion) -> dict[str, str]:
    """Say which version answers."""
    return {VERSION_HEADER: champion.version}
