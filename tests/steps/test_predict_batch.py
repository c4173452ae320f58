"""The champion answers a folder from the command line, and says whether the samples are as in training."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from infra.predict import predict
from steps.artifacts.models import DEPLOYED_FILE
from steps.core.audit.drift import REFERENCE_FILE, Reference
from steps.core.features.embedding import Encoder, embed
from steps.core.modalities.image import modality as image
from steps.runtime import mlflow_client, tracking
from steps.runtime.phase import all_configs
from steps.runtime.registry import Registry
from steps.runtime.review import Review
from steps.runtime.scratch import scratch
from tests.clone import ROOT
from tests.core.toys import PREPROCESSING, encode, exported, picture
from tests.steps.runtime.test_registry import GATES, REPORT, model, use


@pytest.fixture
def champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 40 samples, and a champion `m` that keeps its file and the vectors of those samples."""
    use(tmp_path, monkeypatch)
    monkeypatch.setenv("HEADSTART_PARAMS", str(ROOT / "params.yaml"))
    data = tmp_path / "in put"
    data.mkdir()
    for number in range(40):
        (data / f"{number:02d}.png").write_bytes(encode(picture(number, 40, 40)))
    cfg = all_configs()["predict_batch"]
    name = cfg.backbone.of(image.default_backbone)  # type: ignore[attr-defined]
    weights = image.find_weights(name, cfg.backbone.weights, scratch())  # type: ignore[attr-defined]
    encoder = Encoder(image, name, weights, PREPROCESSING)
    from steps.core.data.files import Folder

    table = pd.DataFrame({"path": [f"{n:02d}.png" for n in range(40)]})
    table["sha256"] = [f"{n:064d}" for n in range(40)]
    z = embed(Folder(str(data), tmp_path), table, encoder, scratch()).astype(np.float32)
    reference = Reference(z, {"blue": 40}, encoder.describe()).bytes()
    review = Review(
        "promoted", GATES, None, files={DEPLOYED_FILE: exported(1.3), REFERENCE_FILE: reference}, key="k"
    )
    with tracking.phase_run("first", "promote", {"seed": 0}, {}):
        Registry("m", mlflow_client.connect()).register(model(1.3), REPORT, review, "# card")
    return data


def test_a_folder_is_answered_and_compared_with_the_training_data(
    champion: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (champion / "bad.png").write_bytes(b"broken")
    predict("m", str(champion), tmp_path / "out")
    shown = capfd.readouterr()
    assert "40 samples answered" in shown.err
    assert "not readable: bad.png" in shown.err
    assert shown.out.splitlines()[-1] == f"predictions: {tmp_path / 'out/predictions.parquet'}"
    table = pd.read_parquet(tmp_path / "out/predictions.parquet")
    assert len(table) == 40
    facts = json.loads((tmp_path / "out/batch.json").read_text())
    assert [row["path"] for row in facts["skipped"]] == ["bad.png"]
    (by_z,) = [row for row in facts["drift"] if row["test"] == "z"]
    assert not by_z["drift"]
    assert "bad.png" in (tmp_path / "out/contact_sheet.html").read_text()
    assert list((scratch() / "batch").iterdir()) == [], "what is whole needs no parts"


def test_other_samples_than_those_of_the_training_are_said_to_differ(champion: Path, tmp_path: Path) -> None:
    for path in champion.iterdir():
        number = int(path.stem)
        path.write_bytes(encode(255 - picture(number, 40, 40) // 4))
    predict("m", str(champion), tmp_path / "out")
    facts = json.loads((tmp_path / "out/batch.json").read_text())
    assert "z" in [row["test"] for row in facts["drift"] if row["drift"]]
    assert "differ from those of the training" in facts["drift_in_words"]


def test_without_a_champion_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(tmp_path, monkeypatch)
    monkeypatch.setenv("HEADSTART_PARAMS", str(ROOT / "params.yaml"))
    with pytest.raises(SystemExit, match="nobody has no champion: run the pipeline"):
        predict("nobody", str(tmp_path), tmp_path / "out")
