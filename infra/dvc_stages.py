"""Write dvc.yaml from the phases' signatures: `python -m infra.dvc_stages`."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from steps.core.system.code import ROOT
from steps.runtime.phase import Phase, all_phases

HEADER = "# Written by `python -m infra.dvc_stages` from the signatures in steps/; a test compares them.\n"


def stage(phase: Phase) -> dict[str, Any]:
    """Return one phase as a DVC stage."""
    data = [] if phase.inputs else ["${ingest_data.path}"]
    data += [f"${{{key}}}" for key in phase.watched]
    return {
        "cmd": f"python -m steps.{phase.name}",
        "params": phase.params,
        "deps": [*data, *(f"artifacts/{name}" for name in phase.inputs), *phase.code],
        "outs": [f"artifacts/{phase.output}"],
    }


def stages() -> dict[str, Any]:
    """Return all of dvc.yaml."""
    trained = {"warm_head": "warm head", "finetuned": "fine-tuned", "student": "student"}
    return {
        "stages": {phase.name: stage(phase) for phase in all_phases()},
        "metrics": ["artifacts/report/metrics.json"],
        "plots": [
            {
                f"loss of the {title}": {
                    "x": "epoch",
                    "y": {f"artifacts/{name}/history.json": ["train_loss", "val_loss"]},
                }
            }
            for name, title in trained.items()
        ]
        + [
            {"accuracy by coverage": {"x": "coverage", "y": {"artifacts/report/coverage.json": "accuracy"}}},
            {"reliability": {"x": "confidence", "y": {"artifacts/report/reliability.json": "accuracy"}}},
            {
                "confusion": {
                    "x": "predicted",
                    "y": {"artifacts/report/answers.json": "label"},
                    "template": "confusion",
                }
            },
        ],
    }


def text() -> str:
    """Return the file's content."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 4096
    buffer = io.StringIO()
    yaml.dump(stages(), buffer)
    return HEADER + buffer.getvalue()


if __name__ == "__main__":
    Path(ROOT / "dvc.yaml").write_text(text(), encoding="utf-8")
