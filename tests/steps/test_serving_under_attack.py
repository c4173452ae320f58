"""What strangers may send to the server: each is refused within limits, and the next request is answered."""

import base64
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from infra.champion import ChampionFollower
from infra.guard import impatient, trust_own_hosts
from infra.serving import VERSION_HEADER, make_app
from steps.artifacts.models import DEPLOYED_FILE
from steps.core.export.deployed import DeployedClassifier
from steps.runtime import mlflow_client
from steps.runtime.params import Serve
from steps.runtime.registry import Registry
from steps.runtime.rollback import roll_back
from tests.core.modalities.test_hostile_images import POSTSCRIPT, blank_png
from tests.core.toys import encode, exported, picture
from tests.steps.runtime.test_registry import inside_a_run, use

LIMITS = Serve(
    max_megabytes=0.2, max_rows=4, max_size=50_000, workers=2, queue=1, connections=24, read_seconds=1.5,
    follow_seconds=0.1,
)  # fmt: skip
GOOD = base64.b64encode(encode(picture(1))).decode()
JSON = {"Content-Type": "application/json"}


@dataclass
class Served:
    """A server with real sockets, in a thread."""

    port: int
    follower: ChampionFollower

    def ask(self, body: Any, headers: Any = JSON, path: str = "/invocations") -> tuple[int, Any, Any]:
        """Post; return status, content and headers."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", path, content, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), answer.headers
        finally:
            connection.close()

    def images(self, *texts: Any) -> tuple[int, Any, Any]:
        return self.ask({"dataframe_records": [{"image": text} for text in texts]})

    def raw(self, data: bytes) -> socket.socket:
        """Open a connection and send bytes."""
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        opened.sendall(data)
        return opened


@contextmanager
def serving(folder: Path, patch: pytest.MonkeyPatch, limits: Serve = LIMITS) -> Iterator[Served]:
    use(folder, patch)
    inside_a_run("first", 1.3, files={DEPLOYED_FILE: exported(1.3)})
    follower = ChampionFollower(Registry("m", mlflow_client.connect()))
    app = make_app(follower, limits)
    trust_own_hosts(app)
    config = uvicorn.Config(
        app, port=0, log_level="warning", http=impatient(limits.read_seconds), server_header=False,
        limit_concurrency=limits.connections, lifespan="on", timeout_graceful_shutdown=5,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield Served(server.servers[0].sockets[0].getsockname()[1], follower)
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("serving")
    with pytest.MonkeyPatch.context() as patch, serving(folder, patch) as served:
        yield served


@pytest.fixture(autouse=True)
def lives_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """After whatever was done, the next request is answered."""
    yield
    if "server" in request.fixturenames:
        assert request.getfixturevalue("server").images(GOOD)[0] == 200


FORMS = [
    {"dataframe_records": [{"image": GOOD}, {"image": GOOD, "other": 1}]},
    {"dataframe_split": {"columns": ["other", "image"], "data": [[1, GOOD], [2, GOOD]]}},
    {"instances": [{"image": GOOD}, {"image": GOOD}]},
    {"instances": [GOOD, GOOD]},
    {"inputs": {"image": [GOOD, GOOD]}},
    {"inputs": [GOOD, GOOD]},
]


def test_all_of_mlflow_s_forms_get_the_same_answers_with_the_version_in_the_header(server: Served) -> None:
    wanted = server.images(GOOD, GOOD)[1]
    assert len(wanted["predictions"]) == 2
    for form in FORMS:
        status, found, headers = server.ask(form)
        assert (status, found, headers[VERSION_HEADER]) == (200, wanted, "1")
    csv = f"image,other\n{GOOD},1\n{GOOD},2\n".encode()
    assert server.ask(csv, {"Content-Type": "text/csv; charset=utf-8"})[:2] == (200, wanted)


def deep(brackets: str) -> bytes:
    return b'{"dataframe_records": ' + (brackets * 30_000).encode()


BAD_REQUESTS: list[tuple[Any, Any, int, str]] = [
    (b"", JSON, 400, "cannot be read as JSON"),
    (b"{", JSON, 400, "cannot be read as JSON"),
    (b"\xff\xfe{}", JSON, 400, "cannot be read as JSON"),
    (deep("["), JSON, 400, "cannot be read as JSON"),
    (deep('{"a":'), JSON, 400, "cannot be read as JSON"),
    (b'{"inputs": ' + b"9" * 10_000 + b"}", JSON, 400, "cannot be read as JSON"),
    ([], JSON, 400, "exactly one of"),
    ("text", JSON, 400, "exactly one of"),
    ({}, JSON, 400, "exactly one of"),
    ({"inputs": [], "instances": []}, JSON, 400, "exactly one of"),
    ({"dataframe_records": {}}, JSON, 400, "no column image"),
    ({"dataframe_records": 3}, JSON, 400, "no column image"),
    ({"dataframe_records": [{"pixels": GOOD}]}, JSON, 400, "no column image"),
    ({"dataframe_records": [{"image": GOOD}, GOOD]}, JSON, 400, "no column image"),
    ({"dataframe_split": [GOOD]}, JSON, 400, "no column image"),
    ({"dataframe_split": {"columns": ["image"], "data": [[]]}}, JSON, 400, "no column image"),
    ({"dataframe_split": {"columns": ["image"], "data": [GOOD]}}, JSON, 400, "no column image"),
    ({"dataframe_split": {"columns": [["image"]], "data": []}}, JSON, 400, "no column image"),
    ({"inputs": {"image": GOOD}}, JSON, 400, "no column image"),
    ({"inputs": [GOOD, None]}, JSON, 400, "image 1: not base64"),
    ({"inputs": [GOOD, 7]}, JSON, 400, "image 1: not base64"),
    ({"inputs": [[GOOD]]}, JSON, 400, "image 0: not base64"),
    ({"inputs": ["ü"]}, JSON, 400, "image 0: not base64"),
    ({"inputs": [base64.b64encode(POSTSCRIPT).decode()]}, JSON, 400, "image 0: not a readable image"),
    (b"other\n1\n", {"Content-Type": "text/csv"}, 400, "no column image"),
    (b"\xff\xff\n", {"Content-Type": "text/csv"}, 400, "comma-separated"),
    (b"", {"Content-Type": "text/csv"}, 400, "comma-separated"),
    (b"x", {}, 415, "expected application/json or text/csv"),
    (b"{}", {"Content-Type": "text/plain"}, 415, "expected application/json or text/csv"),
    (b"{}", {"Content-Type": "application/json; charset=utf-16"}, 415, "in UTF-8"),
    (b"PAR1", {"Content-Type": "application/vnd.apache.parquet"}, 415, "expected application/json"),
]


@pytest.mark.parametrize(("body", "headers", "status", "says"), BAD_REQUESTS)
def test_a_request_that_is_none_is_refused_in_one_sentence_of_ours(
    server: Served, body: Any, headers: Any, status: int, says: str
) -> None:
    found, content, _ = server.ask(body, headers)
    assert found == status
    assert set(content) == {"error_code", "message"}
    assert says in content["message"]
    assert len(content["message"]) < 300, "nothing that was sent comes back"
    for word in ("Traceback", "site-packages", "/tmp", GOOD[:40], "stack_trace"):
        assert word not in json.dumps(content)


def test_what_is_larger_than_a_limit_is_refused_with_413(server: Served) -> None:
    for texts, says in [
        ((GOOD,) * 5, "5 samples, more than 4"),
        ((base64.b64encode(blank_png(300, 200)).decode(),), "image 0: more than 50000 in all"),
        ((base64.b64encode(blank_png(100, 300)).decode(),) * 2, "image 1: more than 50000 in all"),
        (("A" * 200_000,), "larger than 0.2 MB"),
    ]:
        status, content, _ = server.images(*texts)
        assert (status, content["error_code"]) == (413, "TOO_LARGE")
        assert says in content["message"]


def test_a_body_without_a_length_is_cut_off_at_the_limit(server: Served) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    piece = b"10000\r\n" + b"A" * 0x10000 + b"\r\n"
    with server.raw(head + b"Transfer-Encoding: chunked\r\n\r\n") as opened:
        for _ in range(4):  # 262 kB: more than allowed, and no end in sight
            opened.sendall(piece)
        assert opened.recv(100).startswith(b"HTTP/1.1 413 ")


def closed_after(opened: socket.socket) -> float:
    begun = time.monotonic()
    with opened:
        while opened.recv(4096):
            pass
    return time.monotonic() - begun


def test_headers_that_do_not_arrive_close_the_connection_also_on_a_second_request(server: Served) -> None:
    for data in (b"", b"POST /invo", b"GET /ping HTTP/1.1\r\nHost: localhost\r\nX-Slow: "):
        assert closed_after(server.raw(data)) < 30
    whole = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with server.raw(whole) as opened:
        assert opened.recv(4096).startswith(b"HTTP/1.1 200")
        opened.sendall(b"GET /ping HTTP/1.1\r\nHost: loc")
        assert closed_after(opened) < 30


def test_a_body_that_does_not_arrive_is_answered_with_408(server: Served) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with server.raw(head + b"Content-Length: 1000\r\n\r\n{") as opened:
        assert opened.recv(100).startswith(b"HTTP/1.1 408 ")


class Hall:
    """A classifier whose answers wait until they are let go."""

    def __init__(self, deployed: DeployedClassifier) -> None:
        self.deployed, self.begun, self.open = deployed, 0, threading.Event()
        self.modality, self.graph = deployed.modality, deployed.graph

    def answer(self, data: bytes) -> Any:
        self.begun += 1
        assert self.open.wait(60)
        return self.deployed.answer(data)


@pytest.fixture
def hall(server: Served) -> Iterator[Hall]:
    plain = server.follower.current
    waiting = Hall(plain.deployed)
    server.follower.current = replace(plain, deployed=waiting)  # type: ignore[arg-type]
    yield waiting
    waiting.open.set()
    server.follower.current = plain


def until(condition: Any) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < 60
        time.sleep(0.01)


def test_no_more_than_the_allowed_number_work_at_once_and_the_rest_is_told_to_come_back(
    server: Served, hall: Hall
) -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(server.images(GOOD)[0]))
        for _ in range(LIMITS.workers + 4)
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(answers) == 3)
    assert answers == [503, 503, 503], "two work, one waits"
    assert hall.begun == LIMITS.workers
    status, content, headers = server.images(GOOD)
    assert (status, headers["Retry-After"]) == (503, "1")
    assert content["error_code"] == "TEMPORARILY_UNAVAILABLE"
    hall.open.set()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == [200] * 3 + [503] * 3


def test_work_ends_when_the_client_has_left(
    server: Served, hall: Hall, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "headstart")
    body = json.dumps({"inputs": [GOOD] * 4}).encode()
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    opened = server.raw(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    until(lambda: hall.begun == 1)
    opened.close()
    time.sleep(0.3)
    hall.open.set()
    until(lambda: "invocations: 499" in caplog.text)
    assert hall.begun == 1, "three samples were left"


def test_more_connections_than_allowed_are_turned_away_and_the_others_live(server: Served) -> None:
    opened = [server.raw(b"") for _ in range(LIMITS.connections + 4)]
    try:
        opened[-1].sendall(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 503 " in opened[-1].recv(100)
    finally:
        for one in opened:
            one.close()
    until(lambda: server.images(GOOD)[0] == 200)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_name_that_is_not_this_machine_s_is_not_answered(server: Served, host: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for method, path in (("GET", "/"), ("GET", "/ping"), ("POST", "/invocations")):
        connection.request(method, path, headers={"Host": host})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 400
    connection.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LOCALHOST", "[::1]"])
def test_this_machine_s_names_are_answered_with_any_port(server: Served, host: str) -> None:
    for name in (host, f"{host}:{server.port}"):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/ping", headers={"Host": name})
        answer = connection.getresponse()
        assert (answer.status, answer.headers[VERSION_HEADER]) == (200, "1")
        connection.close()


def test_nothing_is_told_of_the_inside(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Hall):
        def answer(self, data: bytes) -> Any:
            raise KeyError("/secret/place")

    plain = server.follower.current
    server.follower.current = replace(plain, deployed=Broken(plain.deployed))  # type: ignore[arg-type]
    status, content, headers = server.images(GOOD)
    server.follower.current = plain
    assert (status, content["message"]) == (500, "the server failed; its log says how")
    assert "/secret/place" in caplog.text
    assert "server" not in headers
    for path in ("/docs", "/openapi.json", "/redoc", "/invocations/x"):
        assert server.ask(b"", path=path)[0] == 404


def test_the_log_has_a_line_per_request_with_the_version(
    server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "headstart")
    server.images(GOOD, GOOD)
    server.images("!")
    assert "invocations: 200, 2 samples, version 1, " in caplog.text
    assert "invocations: 400, 0 samples, version 1, " in caplog.text
    assert GOOD[:40] not in caplog.text


def test_a_promotion_and_a_rollback_are_followed_and_no_request_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy = LIMITS.model_copy(update={"queue": 50})
    seen: list[tuple[int, str, float]] = []
    ended = threading.Event()
    with serving(tmp_path, monkeypatch, roomy) as served:

        def hammer() -> None:
            while not ended.is_set():
                status, content, headers = served.images(GOOD)
                certain = max(content["predictions"][0]["probabilities"].values())
                seen.append((status, headers[VERSION_HEADER], round(certain, 6)))

        threads = [threading.Thread(target=hammer) for _ in range(3)]
        for thread in threads:
            thread.start()
        inside_a_run("second", 9.0, files={DEPLOYED_FILE: exported(1.3)}, met="1")  # its temperature differs
        until(lambda: seen and seen[-1][1] == "2")
        registry = served.follower.registry
        source = Path(registry.client.get_model_version_download_uri("m", "1"))
        source.rename(source.with_name("away"))
        registry.client.set_registered_model_alias("m", "champion", "1")
        time.sleep(0.5)
        assert served.follower.current.version == "2", "what cannot be loaded does not come into service"
        source.with_name("away").rename(source)
        registry.client.set_registered_model_alias("m", "champion", "2")
        roll_back(registry, "test", "why", force=False)
        until(lambda: seen[-1][1] == "1")
        ended.set()
        for thread in threads:
            thread.join(60)
    assert {status for status, _, _ in seen} == {200}
    by_version = {version: {p for _, v, p in seen if v == version} for version in ("1", "2")}
    assert all(len(found) == 1 for found in by_version.values()), "a version's answers are its own"
    assert by_version["1"] != by_version["2"]
