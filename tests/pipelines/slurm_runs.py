"""Runs on two Slurm nodes as a user starts them, and what ZenML, Slurm and the screen say of them."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from steps import PHASES
from tests.clone import Clone, hear_ctrl_c
from tests.pipelines.slurm_nodes import Nodes

RUN = ("zenml", "pipeline", "run", "finetune_pipeline", "--config", "infra/configs/slurm.yaml")
ASK = """
import json
from pathlib import Path
from zenml.client import Client

def text(place):
    files = [place] if place.is_file() else sorted(place.rglob("*"))
    return "".join(file.read_text() for file in files if file.is_file())

run = Client().list_pipeline_runs(sort_by="desc:created", size=1).items[0]
steps = {name: str(step.status) for name, step in run.steps.items()}
outputs = {
    name: [(f"{out.uri}/content", out.run_metadata["digest"]) for (out,) in step.outputs.values()]
    for name, step in run.steps.items()
}
logs = {
    name: [text(Path(log.uri)) for log in Client().get_run_step(step.id).log_collection]
    for name, step in run.steps.items()
}
facts = {"name": run.name, "status": str(run.status), "steps": steps, "outputs": outputs, "logs": logs}
print(json.dumps(facts))
"""


def of(report: dict[str, Any]) -> dict[str, str]:
    return {row["phase"]: row["digest"] for row in report["phases"]}


def apply(clone: Clone, stack: str, nodes: Nodes) -> str:
    done = clone.run("python", "-m", "infra.stack", stack, **nodes.environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def ask(clone: Clone) -> dict[str, Any]:
    """Return what ZenML knows of the latest run."""
    done = clone.run("python", "-c", ASK)
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


class Started:
    """A run in a process of its own, which can be interrupted."""

    def __init__(self, clone: Clone, nodes: Nodes) -> None:
        self.log = clone.folder / "submitted.log"
        words = [str(Path(sys.executable).parent / RUN[0]), *RUN[1:]]
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                words,
                cwd=clone.folder,
                env={**clone.environment(), **nodes.environment},
                stdout=out,
                stderr=out,
                preexec_fn=hear_ctrl_c,
            )

    def said(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text())

    def end(self, seconds: float) -> int:
        """Wait until it has ended; return its status."""
        try:
            return self.process.wait(seconds)
        finally:
            self.process.kill()


def running(nodes: Nodes, phase: str) -> bool:
    return nodes.queue().get(phase, ("", ""))[0] == "RUNNING"


def log_of(clone: Clone, phase: str) -> str:
    """Return what the jobs of a phase have printed, over all runs."""
    return "".join(log.read_text() for log in clone.folder.glob(f".headstart/slurm/*/{phase}.log"))


def block(said: str) -> str:
    """Return the last block of a failed command's output, which is meant for the user, from its error on."""
    assert "Traceback (most recent call last)" not in said.split("\n\n")[-1]
    where, _, what = said.rstrip().rpartition("\n\n")[2].partition(": ")
    assert where in ("finetune_pipeline", *PHASES), where
    return what
