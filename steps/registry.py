"""The model registry: versions, the aliases champion, challenger and previous, and the decisions."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps import tracking
from steps.artifacts import Classifier, Decision, Report
from steps.core.errors import RegistryError
from steps.core.storage import to_json, write_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CLASSIFIER = "artifacts/classifier"  # where an MLflow model keeps ours


@dataclass(frozen=True)
class Registry:
    """One registered model."""

    name: str
    client: "MlflowClient"

    def aliases(self) -> dict[str, str]:
        """Return alias to version; empty where nothing is registered yet."""
        found = self.client.search_registered_models(f"name = '{self.name}'")
        return dict(found[0].aliases) if found else {}

    def decided(self, model: str, report: str) -> Decision | None:
        """Return the decision on this very model and report, if there is one already."""
        for version in self.client.search_model_versions(f"name = '{self.name}'"):
            tags = version.tags
            same = (tags.get("model_digest"), tags.get("report_digest")) == (model, report)
            if same and "decision" in tags:
                return Decision(**json.loads(tags["decision"]))
        return None

    def champion(self, scratch: Path) -> Classifier | None:
        """Load the present champion."""
        version = self.aliases().get("champion")
        if version is None:
            return None
        source = self.client.get_model_version_download_uri(self.name, version)
        with tempfile.TemporaryDirectory(dir=make(scratch)) as folder:
            return Classifier.load(Path(tracking.download(f"{source}/{CLASSIFIER}", folder)))

    def register(
        self, model: Classifier, report: Report, verdict: str, gates: list[dict[str, Any]]
    ) -> Decision:
        """Make a version of the model, move the aliases as the verdict says, and record why."""
        if not self.client.search_registered_models(f"name = '{self.name}'"):
            self.client.create_registered_model(self.name)
        tags = {"model_digest": model.digest, "report_digest": report.digest, "verdict": verdict}
        version = self.add_version(model, report, tags)
        before = self.aliases().get("champion")
        self.client.set_registered_model_alias(self.name, "challenger", version.version)
        if verdict == Decision.promoted:
            if before is not None:
                self.client.set_registered_model_alias(self.name, "previous", before)
            self.client.set_registered_model_alias(self.name, "champion", version.version)
        registered = {"name": self.name, "version": str(version.version)}
        decision = Decision(verdict, gates, registered)
        content = decision.files()["decision.json"]
        assert isinstance(content, bytes)
        self.client.set_model_version_tag(self.name, version.version, "decision", content.decode())
        return decision

    def add_version(self, model: Classifier, report: Report, tags: dict[str, str]) -> "ModelVersion":
        """Store the model as an MLflow model that answers image bytes, and register it."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            model.save(root / "classifier")
            tracking.save_served_model(root / "model", root / "classifier", model.meta)
            write_file(root / "model" / "report.json", to_json(report.metrics))
            run = tracking.log_files(root / "model", "model")
        if run is None:
            raise RegistryError("a model is registered by the run that made it; there is no run")
        source = f"{self.client.get_run(run).info.artifact_uri}/model"
        return self.client.create_model_version(self.name, source, run, tags=tags)


def make(folder: Path) -> Path:
    """Create a folder where it is missing, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder
