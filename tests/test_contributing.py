"""CONTRIBUTING.md is true: its steps are followed here, in a copy of the project."""

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from steps import PHASES
from tests.clone import ROOT, Clone, make_clone

PHASE = '''"""Keep the manifest of one class."""

from typing import Annotated

from steps.artifacts.dataset import Manifest
from steps.runtime.params import From
from steps.core.system.config import Config
from steps.runtime.run import main


class KeepClass(Config):
    """See params.yaml."""

    label: str
    seed: Annotated[int, From("seed")]


def keep_class(manifest: Manifest, cfg: KeepClass) -> Annotated[Manifest, "one_class"]:
    """Return the rows of one label."""
    return Manifest(manifest.table[manifest.table["label"] == cfg.label], manifest.root, manifest.overlooked)


if __name__ == "__main__":
    main(keep_class)
'''

EDGES = """
import json
from pipelines.finetune import finetune_pipeline as p
p.prepare()
print(json.dumps({n: sorted(c.upstream_steps) for n, c in p.invocations.items()}))
"""


ROWS = [line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("| ")]
PLACES = sorted({place for row in ROWS for place in re.findall(r"`([\w./]+/[\w./]+|[\w.]+\.\w+)`", row)})
MADE = ("reports/", "artifacts/")  # by a run


def test_the_places_of_the_table_exist() -> None:
    assert len(ROWS) == 1 + 10
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    keys = {f"{section}.{key}" for section, held in params.items() if isinstance(held, dict) for key in held}
    missing = [
        place
        for place in PLACES
        if not place.startswith(MADE) and not (ROOT / place).exists() and place not in keys
    ]
    assert missing == []
    assert len(PLACES) > 15


def test_every_room_is_in_the_map() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = [
        path.parent.name
        for path in (ROOT / "steps").rglob("__init__.py")
        if path.parent.name not in ("image", "text")
    ]
    assert [room for room in rooms if f"{room}/ " not in text] == []


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return make_clone(tmp_path / "project")


def test_a_phase_is_a_file_a_name_and_a_section(clone: Clone) -> None:
    (clone.folder / "steps/keep_class.py").write_text(PHASE)
    init = clone.folder / "steps/__init__.py"
    init.write_text(
        init.read_text().replace('    "validate_data",\n', '    "keep_class",\n    "validate_data",\n')
    )
    params = clone.folder / "params.yaml"
    params.write_text(params.read_text() + "\nkeep_class:\n  label: red\n")
    assert clone.run("python", "-m", "infra.dvc_stages").returncode == 0
    for stage in ("ingest_data", "keep_class"):
        done = clone.run("python", "-m", f"steps.{stage}")
        assert done.returncode == 0, done.stderr
    assert "30 samples in 1 class: " in done.stderr
    stages = (clone.folder / "dvc.yaml").read_text()
    assert "python -m steps.keep_class" in stages
    assert "- artifacts/one_class" in stages
    (clone.folder / "edges.py").write_text(EDGES)
    edges = clone.run("python", "edges.py")
    assert json.loads(edges.stdout.splitlines()[-1])["keep_class"] == ["ingest_data"], edges.stderr


def test_a_parameter_without_its_key_is_asked_for_and_with_it_accepted(clone: Clone) -> None:
    phase = clone.folder / "steps/evaluate.py"
    phase.write_text(
        phase.read_text().replace("    mistakes: Count\n", "    mistakes: Count\n    extra: Count\n")
    )
    ask = (
        "python",
        "-c",
        "from steps.runtime.phase import all_configs; print(all_configs()['evaluate'].extra)",
    )
    assert "evaluate.extra: missing" in clone.run(*ask).stderr
    clone.set_params(evaluate={"extra": 7})
    assert clone.run(*ask).stdout.strip() == "7"


def test_a_backbone_is_a_name_and_a_file_of_weights(clone: Clone) -> None:
    listed = clone.run("python", "-m", "steps.core.backbones.timm_adapter", "test_resnet")
    assert listed.returncode == 0, listed.stderr
    assert len(listed.stdout.splitlines()) == 5
    clone.set_params(backbone={"name": "test_resnet"})
    done = clone.phases("ingest_data", "validate_data")
    assert done.returncode != 0
    assert "weights.safetensors does not fit test_resnet" in done.stderr
    make = (
        "import timm, safetensors.torch as s; m = timm.create_model('test_resnet', num_classes=0);"
        "s.save_file({k: t.contiguous() for k, t in m.state_dict().items()}, 'weights.safetensors')"
    )
    assert clone.run("python", "-c", make).returncode == 0
    done = clone.phases(*PHASES[PHASES.index("validate_data") : PHASES.index("cache_prefix") + 1])
    assert done.returncode == 0, done.stderr
    assert "the first 3 of the network's 5 stages" in done.stderr
