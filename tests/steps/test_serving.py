"""The champion behind MLflow's protocol: answers, refusals, and the page."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax

from infra.champion import ChampionFollower, load_version, refuse_foreign
from infra.serving import make_app
from steps.artifacts.models import DEPLOYED_FILE
from steps.core.evaluation.inference import predict_bytes
from steps.core.export.deployed import DeployedClassifier
from steps.core.system.errors import ModelLostError, ParamsError, RegistryError
from steps.runtime import mlflow_client
from steps.runtime.params import Serve
from steps.runtime.phase import all_configs
from steps.runtime.registry import FILE_DIGEST, Registry
from tests.clone import ROOT
from tests.core.toys import LABELS, PREPROCESSING, build, encode, exported, picture
from tests.steps.runtime.test_registry import inside_a_run, model, use

LIMITS = all_configs(ROOT / "params.yaml")["serve"]
assert isinstance(LIMITS, Serve)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from fastapi.testclient import TestClient

    with pytest.MonkeyPatch.context() as patch:
        use(tmp_path_factory.mktemp("serving"), patch)
        inside_a_run("first", 1.3, files={DEPLOYED_FILE: exported(1.3)})
        yield TestClient(make_app(ChampionFollower(registry()), LIMITS))


def registry() -> Registry:
    return Registry("m", mlflow_client.connect())


def ask(client: Any, *images: bytes | str) -> Any:
    texts = [x if isinstance(x, str) else base64.b64encode(x).decode() for x in images]
    return client.post("/invocations", json={"dataframe_records": [{"image": text} for text in texts]})


GOOD = [encode(picture(n, 40 + n, 44, n), kind) for n, kind in enumerate(("PNG", "JPEG", "BMP"))]


def test_a_batch_is_answered_with_labels_and_calibrated_probabilities(client: Any) -> None:
    answer = ask(client, *GOOD)
    assert answer.status_code == 200
    wanted = softmax(predict_bytes(build("test_resnet"), PREPROCESSING, GOOD) / 1.3, axis=1)
    for row, probabilities in zip(answer.json()["predictions"], wanted, strict=True):
        assert row["label"] == LABELS[int(probabilities.argmax())]
        np.testing.assert_allclose([row["probabilities"][name] for name in LABELS], probabilities, atol=1e-6)


def test_a_model_of_label_sets_answers_with_the_labels_above_their_thresholds() -> None:
    thresholds = [0.0, 1.0, 0.5]
    deployed = DeployedClassifier.open(exported(1.3), {**model(1.3).meta, "thresholds": thresholds})
    wanted = expit(predict_bytes(build("test_resnet"), PREPROCESSING, GOOD) / 1.3)
    for row, probabilities in zip(map(deployed.answer, GOOD), wanted, strict=True):
        np.testing.assert_allclose([row["probabilities"][name] for name in LABELS], probabilities, atol=1e-6)
        assert row["labels"] == ["blue", "red"][: 1 + (probabilities[2] >= 0.5)]
        assert "label" not in row


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("no base64!", "image 1: not base64"),
        (b"", "image 1: not a readable image"),
        (b"hello", "image 1: not a readable image"),
        (GOOD[0][:-30], "image 1: cannot be decoded"),
    ],
)
def test_a_bad_image_is_refused_by_number_and_the_server_lives_on(
    client: Any, bad: bytes | str, says: str
) -> None:
    answer = ask(client, GOOD[0], bad)
    assert answer.status_code == 400
    assert says in answer.json()["message"]
    assert ask(client, GOOD[0]).status_code == 200


def test_a_request_without_images_is_the_caller_s_mistake(client: Any) -> None:
    assert client.post("/invocations", json={"dataframe_records": [{"pixels": "x"}]}).status_code == 400
    assert (
        client.post("/invocations", content=b"{", headers={"content-type": "application/json"}).status_code
        == 400
    )


def test_the_page_needs_nothing_from_elsewhere(client: Any) -> None:
    page = client.get("/").text
    assert "<h1>m</h1>" in page
    assert "http" not in page


def test_it_listens_on_this_machine_only_unless_a_token_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from infra.guard import TOKEN, token_for
    from infra.serve import HOST

    monkeypatch.delenv(TOKEN, raising=False)
    assert HOST == "127.0.0.1"
    assert token_for(HOST) is token_for("::1") is token_for("localhost") is None
    for wide in ("0.0.0.0", "::", "192.168.0.7", "example.org", ""):
        with pytest.raises(ParamsError, match=rf"--host {re.escape(wide)} can be reached .* set {TOKEN}"):
            token_for(wide)
    monkeypatch.setenv(TOKEN, "short")
    with pytest.raises(ParamsError, match="has 5 characters, expected 16"):
        token_for("0.0.0.0")
    monkeypatch.setenv(TOKEN, SECRET)
    assert token_for("0.0.0.0") == SECRET


SECRET = "0123456789abcdef"


def test_a_guarded_server_answers_nobody_without_the_token() -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from infra.guard import guard

    app = FastAPI()
    app.get("/")(lambda: "page")
    guard(app, SECRET)
    asked = TestClient(app)
    basic = base64.b64encode(f"anyone:{SECRET}".encode()).decode()
    for good in (f"Bearer {SECRET}", f"Basic {basic}"):
        assert asked.get("/", headers={"authorization": good}).status_code == 200
    wrong = (
        "",
        "Bearer",
        f"Bearer {SECRET}x",
        "Basic !",
        "Basic /w==",
        "Basic " + basic[:8],
        f"Digest {SECRET}",
    )
    for bad in wrong:
        answer = asked.get("/", headers={"authorization": bad})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Basic")
    assert asked.get("/").status_code == 401


def test_a_model_that_would_be_unpickled_is_not_served(client: Any, tmp_path: Path) -> None:
    source = mlflow_client.connect().get_model_version_download_uri("m", "1")
    good = Path(mlflow_client.download(source, str(tmp_path / "good")))
    refuse_foreign(good)
    (good / "model.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(RegistryError, match=r"promote does not write \(model.pkl\).*roll back"):
        refuse_foreign(good)
    (good / "model.pkl").unlink()
    facts = (good / "MLmodel").read_text()
    (good / "MLmodel").write_text(facts.replace("mlflow.pyfunc.loaders.code_model", "mlflow.sklearn"))
    with pytest.raises(RegistryError, match=r"\(mlflow.sklearn\)"):
        refuse_foreign(good)


def test_a_champion_that_is_not_there_or_has_lost_its_files_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(tmp_path, monkeypatch)
    with pytest.raises(RegistryError, match="m has no champion: run the pipeline"):
        ChampionFollower(registry())
    inside_a_run("first", 1.3)
    with pytest.raises(ModelLostError, match=r"version 1 .* cannot be loaded, .*model\.onnx"):
        ChampionFollower(registry())
    source = Path(mlflow_client.connect().get_model_version_download_uri("m", "1"))
    source.rename(source.with_name("elsewhere"))
    with pytest.raises(ModelLostError, match=r"version 1 .* cannot be loaded, its files are gone: restore"):
        ChampionFollower(registry())


def test_only_the_file_that_the_gates_judged_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(tmp_path, monkeypatch)
    inside_a_run("first", 1.3, files={DEPLOYED_FILE: exported(1.3)})
    assert len(registry().tags("1")[FILE_DIGEST]) == 64
    source = Path(mlflow_client.connect().get_model_version_download_uri("m", "1"))
    (source / DEPLOYED_FILE).write_bytes(b"another file")
    with pytest.raises(ModelLostError, match=r"model\.onnx is not the file that the gates judged"):
        load_version(registry(), "1")


def test_mlflow_s_own_server_answers_from_the_same_file(client: Any) -> None:
    from mlflow.pyfunc import load_model

    source = mlflow_client.connect().get_model_version_download_uri("m", "1")
    served = load_model(source)
    texts = [base64.b64encode(data).decode() for data in GOOD]
    assert served.predict(pd.DataFrame({"image": texts})) == ask(client, *GOOD).json()["predictions"]
    assert "network" not in vars(served.unwrap_python_model())
