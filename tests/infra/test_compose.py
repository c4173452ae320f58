"""The containers are the servers of local-services.sh: same versions, no password in it, loopback only."""

import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from steps.core.system.code import ROOT

TEXT = (ROOT / "infra/compose.yaml").read_text()
COMPOSE: dict[str, Any] = YAML(typ="safe", pure=True).load(TEXT)
SERVERS = {"postgres", "s3", "buckets", "mlflow", "zenml"}
KNOWN = {
    "image", "pull_policy", "restart", "build", "environment", "configs", "volumes", "ports", "healthcheck",
    "command", "depends_on",
}  # fmt: skip


def test_every_service_is_described_in_words_that_compose_knows() -> None:
    assert set(COMPOSE["services"]) == SERVERS
    for service in COMPOSE["services"].values():
        assert set(service) <= KNOWN
        assert set(service.get("depends_on", {})) <= SERVERS
        for mounted in service.get("volumes", []):
            assert mounted.partition(":")[0] in COMPOSE["volumes"]
        for config in service.get("configs", []):
            assert config["source"] in COMPOSE["configs"]


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in ports)


@pytest.mark.parametrize("name", ["POSTGRES", "S3", "MLFLOW", "ZENML"])
def test_no_password_stands_in_the_file_and_none_may_be_left_out(name: str) -> None:
    assert f"${{{name}_PASSWORD:?" in TEXT
    values = re.findall(r"(?:PASSWORD|password|SECRET\w*)\s*[:=]\s*(\S+)", TEXT)
    assert values
    assert all(value.startswith("${") for value in values)


def test_the_images_are_made_of_the_versions_that_run_without_containers() -> None:
    recipe = COMPOSE["services"]["mlflow"]["build"]["dockerfile_inline"]
    assert "pip install --no-cache-dir -r /services.txt" in recipe
    script = (ROOT / "infra/local-services.sh").read_text()
    assert "infra/services.txt" in script
    pinned = (ROOT / "infra/services.txt").read_text().splitlines()[1:]
    assert all("==" in line for line in pinned)
    ours = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    theirs = dict(line.split("==") for line in pinned)
    assert {name: theirs[name] for name in ("zenml", "mlflow")} == {
        name: ours[name] for name in ("zenml", "mlflow")
    }
