"""The model registry: versions, the aliases champion, challenger and previous, and the decisions.

Whatever a version is to be is written with it, in the one call that makes it; the aliases follow from
that, each move can be made twice, and `champion` is moved once and last. So a kill between any two calls
leaves exactly one champion, and running again finishes the job.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps.artifacts.decision import Decision
from steps.artifacts.models import Classifier
from steps.artifacts.report import Report
from steps.core.system.errors import RegistryError
from steps.core.system.locks import alone
from steps.core.system.storage import to_json, write_file
from steps.runtime import mlflow_client, tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CLASSIFIER = "artifacts/classifier"  # where an MLflow model keeps ours
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
NOBODY = "nobody"


def model_name(name: str | None, data: str) -> str:
    """Return the registered model's name: as given, or after the last part of the data set's path."""
    return name or re.sub(r"[^\w. -]", "-", data.rstrip("/").rpartition("/")[2], flags=re.ASCII)


@dataclass(frozen=True)
class Ruling:
    """What the gates came to, and against which champion."""

    verdict: str
    gates: list[dict[str, Any]]
    champion: str | None
    """The version that was met; None where there was none."""
    deployment: list[dict[str, Any]] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """What is kept beside the model: its exported files."""


@dataclass(frozen=True)
class Registry:
    """One registered model."""

    name: str
    client: "MlflowClient"

    @contextmanager
    def alone(self, scratch: Path) -> Iterator[None]:
        """Let one promotion at a time judge and move aliases on this machine; the others wait."""
        with alone(scratch / "registry.lock", f"promotion of {self.name}"):
            yield

    def aliases(self) -> dict[str, str]:
        """Return alias to version; empty where nothing is registered yet."""
        found = self.client.search_registered_models(f"name = '{self.name}'")
        return {alias: str(version) for alias, version in found[0].aliases.items()} if found else {}

    def decided(self, model: str, report: str) -> Decision | None:
        """Return the decision on this very model and report, if any; a half-made move is finished."""
        for version in self.client.search_model_versions(f"name = '{self.name}'"):
            tags = version.tags
            if (tags.get("model_digest"), tags.get("report_digest")) == (model, report):
                return self.settle(version)
        return None

    def champion(self, scratch: Path) -> Classifier | None:
        """Load the present champion."""
        version = self.aliases().get(CHAMPION)
        return None if version is None else self.load(version, scratch)

    def load(self, version: str, scratch: Path) -> Classifier:
        """Load the model of a version."""
        source = self.client.get_model_version_download_uri(self.name, version)
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            return Classifier.load(Path(mlflow_client.download(f"{source}/{CLASSIFIER}", folder)))

    def kept(self, version: str, file: str, scratch: Path) -> Path | None:
        """Fetch a file that is kept beside a version's model; None where there is none.

        A version never changes, so what was fetched once is read from `scratch` the next time.
        """
        known = self.client.get_model_version(self.name, version)
        place = scratch / "registry" / str(known.run_id) / file
        if not place.is_file():
            listed = self.client.list_artifacts(known.run_id, "model")
            if f"model/{file}" not in {entry.path for entry in listed}:
                return None
            source = self.client.get_model_version_download_uri(self.name, version)
            scratch.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                fetched = Path(mlflow_client.download(f"{source}/{file}", folder))
                write_file(place, fetched.read_bytes())
        return place

    def register(self, model: Classifier, report: Report, ruling: Ruling, card: str) -> Decision:
        """Make a version of the model with the ruling on it, and move the aliases as it says."""
        if not self.client.search_registered_models(f"name = '{self.name}'"):
            self.client.create_registered_model(self.name)
        tags = {
            "model_digest": model.digest,
            "report_digest": report.digest,
            "verdict": ruling.verdict,
            "met": ruling.champion or NOBODY,
        }
        return self.settle(self.add_version(model, report, ruling, card, tags))

    def add_version(
        self, model: Classifier, report: Report, ruling: Ruling, card: str, tags: dict[str, str]
    ) -> "ModelVersion":
        """Store the model as an MLflow model that answers requests, and register it."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            model.save(root / "classifier")
            mlflow_client.save_served_model(root / "model", root / "classifier", model.meta)
            write_file(root / "model" / "report.json", to_json(report.metrics))
            ruled = {"gates": ruling.gates, "deployment": ruling.deployment, "measured": ruling.measured}
            write_file(root / "model" / "gates.json", to_json(ruled))
            for name, content in ruling.files.items():
                write_file(root / "model" / name, content)
            write_file(root / "model" / "card.md", card.encode())
            run = tracking.log_files(root / "model", "model")
        if run is None:
            raise RegistryError("a model is registered by the run that made it; there is no run")
        source = f"{self.client.get_run(run).info.artifact_uri}/model"
        return self.client.create_model_version(self.name, source, run, tags=tags)

    def settle(self, version: "ModelVersion") -> Decision:
        """Move the aliases as a version's tags say, unless that is done; return its decision.

        A champion that another machine has made in the meantime was not met: it stays, and this version
        says so.
        """
        number, tags = str(version.version), version.tags
        if "settled" not in tags:
            verdict, present = tags["verdict"], self.aliases().get(CHAMPION)
            if verdict == Decision.promoted and present not in (number, version.tags["met"], None):
                verdict = "outrun"
                self.client.set_model_version_tag(self.name, number, "verdict", verdict)
            self.client.set_registered_model_alias(self.name, CHALLENGER, number)
            if verdict == Decision.promoted and present != number:
                if present is not None:
                    self.client.set_registered_model_alias(self.name, PREVIOUS, present)
                self.client.set_registered_model_alias(self.name, CHAMPION, number)
            self.client.set_model_version_tag(self.name, number, "settled", "yes")
        return self.decision(number)

    def decision(self, version: str) -> Decision:
        """Read back what was decided on a version."""
        verdict = self.client.get_model_version(self.name, version).tags["verdict"]
        source = self.client.get_model_version_download_uri(self.name, version)
        with tempfile.TemporaryDirectory() as folder:
            ruled = json.loads(Path(mlflow_client.download(f"{source}/gates.json", folder)).read_bytes())
        registered = {"name": self.name, "version": version}
        return Decision(verdict, ruled["gates"], registered, ruled["deployment"], ruled["measured"])

    def rollback(self, who: str, why: str) -> tuple[str, str]:
        """Swap champion and previous; return the version that is champion now, and the one that was.

        Raises:
            RegistryError: There is no previous champion.
        """
        aliases = self.aliases()
        if CHAMPION not in aliases or PREVIOUS not in aliases:
            raise RegistryError(f"{self.name} has {aliases or 'no versions'}: nothing to roll back to")
        now, before = aliases[PREVIOUS], aliases[CHAMPION]
        if now == before:  # a kill came between the two moves below
            before = self.rolled_back_to(now)
        reason = json.dumps({"who": who, "why": why, "to": now})
        self.client.set_model_version_tag(self.name, before, "rolled_back", reason)
        self.client.set_registered_model_alias(self.name, CHAMPION, now)
        self.client.set_registered_model_alias(self.name, PREVIOUS, before)
        return now, before

    def rolled_back_to(self, version: str) -> str:
        """Return the version that was champion before `version` was made so by a rollback."""
        for other in self.client.search_model_versions(f"name = '{self.name}'"):
            if json.loads(other.tags.get("rolled_back", "{}")).get("to") == version:
                return str(other.version)
        raise RegistryError(f"{self.name}: version {version} is champion and previous at once")
