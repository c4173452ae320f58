"""The model registry: versions, the aliases champion, challenger and previous, and the decisions.

Whatever a version is to be is written with it, in the one call that makes it; the aliases follow from
that, each move can be made twice, and `champion` is moved once and last. So a kill between any two calls
leaves exactly one champion, and running again finishes the job.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steps.artifacts.decision import Decision
from steps.artifacts.models import DEPLOYED_FILE, Classifier
from steps.artifacts.report import Report
from steps.core.system.errors import ArtifactError, ModelLostError, RegistryError
from steps.core.system.locks import exclusive_lock
from steps.core.system.storage import to_json, write_file
from steps.runtime import mlflow_client, tracking
from steps.runtime.review import NOBODY, Review

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CLASSIFIER = "artifacts/classifier"  # where an MLflow model keeps ours
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
FILE_DIGEST = "file_sha256"  # tag of a version: of the exported file that the gates judged
DATA_ROOT = "data_root"  # tag of the registered model: where its data set lies


@dataclass(frozen=True)
class Registry:
    """One registered model."""

    name: str
    client: "MlflowClient"
    data: str | None = None
    """Where the data set lies; None: not known, and not recorded."""

    @contextmanager
    def exclusive(self, scratch: Path) -> Iterator[None]:
        """Let one promotion at a time judge and move aliases on this machine; the others wait."""
        with exclusive_lock(scratch / "registry.lock", f"promotion of {self.name}"):
            yield

    def aliases(self) -> dict[str, str]:
        """Return alias to version; empty where nothing is registered yet."""
        found = self.client.search_registered_models(f"name = '{self.name}'")
        return {alias: str(version) for alias, version in found[0].aliases.items()} if found else {}

    def tags(self, version: str) -> dict[str, str]:
        """Return the tags of a version."""
        return dict(self.client.get_model_version(self.name, version).tags)

    def versions(self) -> "list[ModelVersion]":
        """Return all versions, the newest first."""
        found = self.client.search_model_versions(f"name = '{self.name}'")
        return sorted(found, key=lambda version: -int(version.version))

    def opponent(self, model: str) -> str | None:
        """Return the version that a model, by its digest, has to beat; None: there is none.

        It is the champion; where that is the very model, the one that it had met itself.
        """
        version = self.aliases().get(CHAMPION)
        if version is None or self.tags(version).get("model_digest") != model:
            return version
        met = self.tags(version)["met"]
        return None if met == NOBODY else met

    def find_decision(self, key: str) -> Decision | None:
        """Return the earlier decision of this key (`ruling_key`), if any; a half-made move is finished.

        One whose files are gone is made anew.
        """
        for version in self.versions():
            if version.tags.get("ruling") == key and self.whole(str(version.version)):
                return self.apply_decision(version)
        return None

    def rolled_back(self, model: str) -> str | None:
        """Say who has rolled a model, by its digest, back and why; None: nobody has."""
        for version in self.versions():
            if version.tags.get("model_digest") == model and "rolled_back" in version.tags:
                told = json.loads(version.tags["rolled_back"])
                return f"{told['who']}: {told['why']}"
        return None

    def champion(self, scratch: Path) -> Classifier | None:
        """Load the present champion."""
        version = self.aliases().get(CHAMPION)
        return None if version is None else self.load(version, scratch)

    def load(self, version: str, scratch: Path) -> Classifier:
        """Load the model of a version.

        Raises:
            ModelLostError: Its files are gone, or are not what they were.
        """
        source = f"{self.client.get_model_version_download_uri(self.name, version)}/{CLASSIFIER}"
        if not self.whole(version):
            raise self.lost(version, f"nothing lies at {source}")
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            try:
                return Classifier.load(Path(mlflow_client.download(source, folder)))
            except ArtifactError as error:
                raise self.lost(version, f"{source} is not what it was: {error}") from None

    def lost(self, version: str, found: str) -> ModelLostError:
        """Return the error that says what to do about a version without its files."""
        return ModelLostError(
            f"version {version} of the registered model {self.name!r} cannot be loaded, {found}: restore the "
            f'files; or make the previous champion champion again (python -m infra.rollback "{self.name}" '
            "--why ...); or let the next model succeed it without meeting it (promote.on_lost_champion: "
            "succeed); or register another model (promote.name). Until then it stays champion"
        )

    def whole(self, version: str) -> bool:
        """Say whether the files of a version are there."""
        known = self.client.get_model_version(self.name, version)
        listed = self.client.list_artifacts(known.run_id, f"model/{CLASSIFIER}")
        return f"model/{CLASSIFIER}/artifact.json" in {entry.path for entry in listed}

    def fetch_kept_file(self, version: str, file: str, scratch: Path) -> Path | None:
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

    def register(self, model: Classifier, report: Report, review: Review, card: str) -> Decision:
        """Make a version of the model with the ruling on it, and move the aliases as it says."""
        own = {DATA_ROOT: self.data} if self.data is not None else {}
        if not (known := self.client.search_registered_models(f"name = '{self.name}'")):
            self.client.create_registered_model(self.name, own)
        elif own.items() - known[0].tags.items():
            self.client.set_registered_model_tag(self.name, DATA_ROOT, self.data)
        tags = {
            "model_digest": model.digest,
            "report_digest": report.digest,
            "verdict": review.verdict,
            "met": review.champion or NOBODY,
            "replaces": review.replaces or review.champion or NOBODY,
            "ruling": review.key,
        }
        if file := review.files.get(DEPLOYED_FILE):
            tags[FILE_DIGEST] = hashlib.sha256(file).hexdigest()
        return self.apply_decision(self.add_version(model, report, review, card, tags))

    def add_version(
        self, model: Classifier, report: Report, review: Review, card: str, tags: dict[str, str]
    ) -> "ModelVersion":
        """Store the model as an MLflow model that answers requests, and register it."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            model.save(root / "classifier")
            mlflow_client.save_served_model(root / "model", root / "classifier", model.meta)
            write_file(root / "model" / "report.json", to_json(report.metrics))
            evidence = {
                "gates": review.gates,
                "deployment": review.deployment,
                "measured": review.measured,
                "candidate": dict(review.candidate),
            }
            write_file(root / "model" / "gates.json", to_json(evidence))
            for name, content in review.files.items():
                write_file(root / "model" / name, content)
            write_file(root / "model" / "card.md", card.encode())
            run = tracking.log_files(root / "model", "model")
        if run is None:
            raise RegistryError("a model is registered by the run that made it; there is no run")
        source = f"{self.client.get_run(run).info.artifact_uri}/model"
        return self.client.create_model_version(self.name, source, run, tags=tags)

    def apply_decision(self, version: "ModelVersion") -> Decision:
        """Move the aliases as a version's tags say, unless that is done; return its decision.

        A champion that another machine has made in the meantime was not met: it stays, and this version
        says so. So it does where its model has been rolled back since.
        """
        number, tags = str(version.version), version.tags
        if "settled" not in tags:
            verdict, present = tags["verdict"], self.aliases().get(CHAMPION)
            if verdict == Decision.promoted and self.rolled_back(tags["model_digest"]):
                verdict = Decision.rolled_back
            elif verdict == Decision.promoted and present not in (number, tags["replaces"], None):
                verdict = "superseded"
            if verdict != tags["verdict"]:
                self.client.set_model_version_tag(self.name, number, "verdict", verdict)
            self.client.set_registered_model_alias(self.name, CHALLENGER, number)
            if verdict == Decision.promoted and present != number:
                if present is not None and self.tags(present).get("model_digest") != tags["model_digest"]:
                    self.client.set_registered_model_alias(self.name, PREVIOUS, present)
                self.client.set_registered_model_alias(self.name, CHAMPION, number)
            self.client.set_model_version_tag(self.name, number, "settled", "yes")
        return self.decision(number)

    def decision(self, version: str) -> Decision:
        """Read back what was decided on a version, and whether it has been rolled back since."""
        tags = self.tags(version)
        verdict, registered = tags["verdict"], {"name": self.name, "version": version}
        why = self.rolled_back(tags["model_digest"])
        if why and verdict in (Decision.promoted, Decision.rolled_back):
            verdict, registered = Decision.rolled_back, {**registered, "rolled_back": why}
        source = self.client.get_model_version_download_uri(self.name, version)
        with tempfile.TemporaryDirectory() as folder:
            evidence = json.loads(Path(mlflow_client.download(f"{source}/gates.json", folder)).read_bytes())
        return Decision(verdict, registered=registered, **evidence)
