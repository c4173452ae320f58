"""Two Slurm nodes, a project that runs on them, and what the local orchestrator makes of the same."""

from collections.abc import Iterator

import pytest

from tests.clone import Clone, make_clone
from tests.pipelines.slurm_nodes import Nodes, free_port
from tests.pipelines.slurm_runs import apply, of


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path_factory.mktemp("slurm") / "lab", free_port())
    nodes.do("start")
    yield nodes
    nodes.do("stop")
    assert nodes.processes() == []


@pytest.fixture(scope="module")
def clone(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    clone = make_clone(tmp_path_factory.mktemp("slurm-project") / "project")
    apply(clone, "slurm", nodes)
    return clone


@pytest.fixture(scope="session")
def digests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the local orchestrator makes of the same commit and params."""
    report = make_clone(tmp_path_factory.mktemp("local-project") / "project").zenml()
    return of(report)
