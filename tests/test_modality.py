"""A modality that no file of the product knows runs through every phase, under both engines."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from steps import PHASES
from steps.artifacts.models import Classifier
from steps.core.system.code import ROOT
from steps.runtime.phase import load_phase
from tests.clone import Clone, make_vector_clone
from tests.test_dag import imports_of


@pytest.fixture(scope="module")
def by_zenml(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, dict[str, Any]]:
    clone = make_vector_clone(tmp_path_factory.mktemp("vectors") / "project")
    return clone, clone.zenml()


def test_every_phase_runs_on_rows_of_a_table(by_zenml: tuple[Clone, dict[str, Any]]) -> None:
    clone, report = by_zenml
    assert [row["phase"] for row in report["phases"] if not row["reused"]] == list(PHASES)
    assert report["decision"]["verdict"] == "promoted"
    assert report["models"]["finetuned"]["accuracy"]["value"] > 0.6
    (page,) = clone.folder.glob(f"reports/{report['run']}/report.html")
    assert re.search(r"-?\d\.\d\d, -?\d\.\d\d, -?\d\.\d\d", page.read_text()), "mistakes are shown as numbers"


@pytest.mark.slow
def test_the_other_engine_writes_equal_digests(
    by_zenml: tuple[Clone, dict[str, Any]], tmp_path: Path
) -> None:
    clone = make_vector_clone(tmp_path / "project")
    commands = (("git", "init", "-q"), ("dvc", "init", "-q"), ("python", "-m", "infra.dvc_stages"))
    assert [clone.run(*words).returncode for words in commands] == [0, 0, 0]
    assert "tests/vectors/modality.py" in (clone.folder / "dvc.yaml").read_text()
    assert sorted(clone.repro()) == sorted(PHASES)
    places = clone.folder / "artifacts"
    for row in by_zenml[1]["phases"]:
        phase = load_phase(row["phase"])
        kind = phase.function.__annotations__["return"].__origin__
        assert kind.load(places / phase.output).digest == row["digest"], row["phase"]
    assert Classifier.load(places / "finetuned").meta["modality"] == "tests.vectors"
    assert json.loads((places / "manifest/root.json").read_text())["root"] == "vectors.csv#x0,x1,x2,x3"


ALLOWED = ("steps/core/modalities/image/", "steps/core/backbones/timm_adapter.py")
ALLOWED_OF_TEXT = ("steps/core/modalities/text/", "steps/core/backbones/transformers_adapter.py")
LIBRARIES = {"PIL", "torchvision", "timm"}
LIBRARIES_OF_TEXT = {"transformers", "tokenizers", "datasketch"}
WORDS = re.compile(r"\bpixels?\b|\bpictures?\b|\bphotograph|\bRGB\b|\bJPEG\b", re.IGNORECASE)


def code_of_the_product() -> list[Path]:
    files = [path for room in ("steps", "pipelines") for path in (ROOT / room).rglob("*.py")]
    return [path for path in files if not path.relative_to(ROOT).as_posix().startswith(ALLOWED)]


def test_only_images_and_the_adapter_of_timm_import_what_reads_images() -> None:
    importers = {
        path.relative_to(ROOT).as_posix(): imports_of(path, top=True) & LIBRARIES
        for path in code_of_the_product()
    }
    assert {path: names for path, names in importers.items() if names} == {
        "steps/core/backbones/weights.py": {"timm"}
    }


def test_only_text_and_the_adapter_of_transformers_import_what_reads_texts() -> None:
    files = [path for room in ("steps", "pipelines") for path in (ROOT / room).rglob("*.py")]
    importers = {
        name
        for path in files
        if not (name := path.relative_to(ROOT).as_posix()).startswith(ALLOWED_OF_TEXT)
        and imports_of(path) & LIBRARIES_OF_TEXT
    }
    assert importers == set()


def test_no_other_file_speaks_of_images() -> None:
    said = {
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in code_of_the_product()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if WORDS.search(line)
    }
    assert sorted(said) == []
