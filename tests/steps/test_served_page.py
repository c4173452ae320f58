"""The served page in a real browser, in front of the real server and a registered champion."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scipy.special import softmax
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from steps.artifacts.models import DEPLOYED_FILE
from steps.core.evaluation.inference import predict_bytes
from steps.runtime.params import PARAMS_FILE
from tests.clone import ROOT
from tests.core.toys import LABELS, PREPROCESSING, build, encode, exported, picture
from tests.steps.runtime.test_registry import inside_a_run, use

pytestmark = pytest.mark.services

SWITCHES = (
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync",
)  # fmt: skip
PATIENCE = 240  # seconds, for a machine that has much to do
DROP = """
const [name, text] = arguments, data = new DataTransfer();
data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
document.getElementById("drop").dispatchEvent(
  new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
"""


def found(*names: str) -> str:
    """Return the path of a program; where it is missing, Debian's package brings both that are needed."""
    for _ in range(2):
        if path := next(filter(None, map(shutil.which, names)), None):
            return path
        for words in (["update", "-qq"], ["install", "-y", "-qq", "chromium", "chromium-driver"]):
            subprocess.run(["apt-get", *words], check=True, capture_output=True)
    raise FileNotFoundError(f"none of {names}, after installing chromium and chromium-driver")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Register a tiny champion and start `python -m infra.serve` in front of it."""
    folder = tmp_path_factory.mktemp("serving")
    with pytest.MonkeyPatch.context() as patch:
        use(folder, patch)
        inside_a_run("first", 1.3, files={DEPLOYED_FILE: exported(1.3)})
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = [sys.executable, "-m", "infra.serve", "m", "--port", str(port)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), PARAMS_FILE: str(ROOT / "params.yaml")}
        log = (folder / "log").open("wb")
        started = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url, started, folder / "log")
            yield url
        finally:
            started.send_signal(signal.SIGINT)
            started.wait(PATIENCE)
            log.close()


def wait_for(url: str, started: "subprocess.Popen[bytes]", log: Path) -> None:
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE:
        assert started.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{url}/ping", timeout=5).close()
            return
        except urllib.error.URLError:
            time.sleep(0.2)
    raise TimeoutError(log.read_text())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Start Chromium without a window, with a profile of its own."""
    options = ChromeOptions()
    options.binary_location = found("chromium", "google-chrome")
    profile = tmp_path_factory.mktemp("profile")
    for switch in (*SWITCHES, f"user-data-dir={profile}"):
        options.add_argument(f"--{switch}")
    driver = Chrome(options, ChromeService(found("chromedriver")))
    driver.set_page_load_timeout(PATIENCE)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Chrome, server: str) -> Chrome:
    browser.get(server)
    return browser


def drop(page: Chrome, name: str, data: bytes) -> None:
    page.execute_script(DROP, name, base64.b64encode(data).decode())


def told(page: Chrome, place: str) -> str:
    """Wait until something other than the sign of waiting stands at a place; return it."""

    def text(driver: Chrome) -> str:
        return driver.find_element(By.ID, place).text.strip("… ")

    return WebDriverWait(page, PATIENCE).until(text)


def shown(page: Chrome) -> list[tuple[str, str]]:
    rows = page.find_elements(By.CSS_SELECTOR, "#table tr")
    return [(cells[0].text, cells[1].text) for row in rows if (cells := row.find_elements(By.TAG_NAME, "td"))]


def wanted(data: bytes) -> tuple[str, list[tuple[str, str]]]:
    """What the page should show: the classifier's own answer, the likeliest class first."""
    (row,) = softmax(predict_bytes(build("test_resnet"), PREPROCESSING, [data]) / 1.3, axis=1)
    order = sorted(range(len(LABELS)), key=lambda k: -row[k])
    return LABELS[order[0]], [(LABELS[k], f"{100 * row[k]:.1f} %") for k in order]


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_picture_that_is_dropped_gets_the_classifier_s_own_answer(page: Chrome, channel: int) -> None:
    data = encode(picture(channel, 90, 120, channel), ("PNG", "JPEG", "WEBP")[channel])
    label, rows = wanted(data)
    drop(page, "leaf.png", data)
    assert told(page, "answer") == label
    assert shown(page) == rows
    assert page.find_element(By.ID, "shown").is_displayed()
    assert not page.find_element(By.ID, "error").text


def test_a_picture_that_is_chosen_gets_the_same_answer_also_when_chosen_twice(
    page: Chrome, tmp_path: Path
) -> None:
    data = encode(picture(5, 50, 40, 1))
    (tmp_path / "leaf.png").write_bytes(data)
    for _ in range(2):
        page.execute_script("document.getElementById('answer').textContent = ''")
        page.find_element(By.ID, "file").send_keys(str(tmp_path / "leaf.png"))
        assert told(page, "answer") == wanted(data)[0]
        assert shown(page) == wanted(data)[1]


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"no sample", "not a readable image"), (encode(picture(0))[:-40], "cannot be decoded")],
    ids=["text", "cut short"],
)
def test_a_broken_file_is_named_with_the_reason_and_the_server_lives_on(
    page: Chrome, data: bytes, says: str, tmp_path: Path
) -> None:
    drop(page, "broken.png", data)
    message = told(page, "error")
    assert message.startswith(f"broken.png: {says}")
    page.save_screenshot(str(tmp_path / "refused.png"))  # for a person to look at
    assert not page.find_element(By.ID, "answer").text
    assert not page.find_element(By.ID, "shown").is_displayed()
    good = encode(picture(3))
    drop(page, "leaf.png", good)
    assert told(page, "answer") == wanted(good)[0]
    assert not page.find_element(By.ID, "error").text


def test_it_fits_a_phone_and_needs_nothing_from_elsewhere(page: Chrome, server: str, tmp_path: Path) -> None:
    page.set_window_size(500, 800)
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True},
    )
    drop(page, "leaf.png", encode(picture(1, 400, 1200)))
    told(page, "answer")
    page.save_screenshot(str(tmp_path / "phone.png"))  # for a person to look at
    width, inner = page.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert width <= inner == 360
    asked = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert all(name.startswith((server, "blob:", "data:")) for name in asked), asked


def test_the_browser_has_nothing_to_complain_about(page: Chrome) -> None:
    drop(page, "leaf.png", encode(picture(2)))
    told(page, "answer")
    complaints = [row["message"] for row in page.get_log("browser") if "400" not in row["message"]]
    assert complaints == []


def post(url: str, *texts: str) -> tuple[int, dict[str, Any]]:
    body = json.dumps({"dataframe_records": [{"image": text} for text in texts]}).encode()
    request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_batch_is_answered_and_a_bad_image_in_it_is_named(server: str) -> None:
    good = [encode(picture(n, 40 + n, 60, n % 3)) for n in range(5)]
    texts = [base64.b64encode(data).decode() for data in good]
    status, answer = post(server, *texts)
    assert status == 200
    assert [row["label"] for row in answer["predictions"]] == [wanted(data)[0] for data in good]
    texts[3] = base64.b64encode(b"no sample").decode()
    status, answer = post(server, *texts)
    assert status == 400
    assert "image 3: not a readable image" in answer["message"]
    assert post(server, texts[0])[0] == 200
