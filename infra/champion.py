"""The champion that a server answers with: fetched from the registry, and followed when it changes."""

import hashlib
import logging
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from steps.artifacts.models import DEPLOYED_FILE, Classifier
from steps.core.export.deployed import DeployedClassifier
from steps.core.system.errors import ArtifactError, HeadstartError, RegistryError
from steps.runtime import mlflow_client
from steps.runtime.registry import CHAMPION, CLASSIFIER, FILE_DIGEST, Registry

LOADER = "mlflow.pyfunc.loaders.code_model"
PICKLED = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin"}

log = logging.getLogger("headstart")


@dataclass(frozen=True)
class Champion:
    """A version of the registered model, loaded."""

    version: str
    deployed: DeployedClassifier


def load_version(registry: Registry, version: str) -> Champion:
    """Fetch a version and load the file that the gates have judged; no code of the registry's is run.

    Raises:
        ModelLostError: Its files are gone, or are not what they were.
        RegistryError: They are not of the kind that `promote` writes.
    """
    if not registry.whole(version):
        raise registry.lost(version, "its files are gone")
    with tempfile.TemporaryDirectory() as folder:
        uri = registry.client.get_model_version_download_uri(registry.name, version)
        root = Path(mlflow_client.download(uri, folder))
        refuse_foreign(root)
        try:
            content, meta = (root / DEPLOYED_FILE).read_bytes(), Classifier.load(root / CLASSIFIER).meta
        except (ArtifactError, OSError) as error:
            raise registry.lost(version, f"{error}") from None
    digest = registry.tags(version).get(FILE_DIGEST)
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise registry.lost(version, f"{DEPLOYED_FILE} is not the file that the gates judged")
    return Champion(version, DeployedClassifier.open(content, meta))


def refuse_foreign(folder: Path) -> None:
    """Look at a model before it is loaded: one of another kind could be a pickle, which runs code.

    Raises:
        RegistryError: It is not of the kind that `promote` writes.
    """
    from mlflow.models import Model

    flavors = Model.load(str(folder)).flavors
    odd = sorted(set(flavors) - {"python_function"})
    loader = flavors.get("python_function", {}).get("loader_module")
    odd += [str(loader)] if loader != LOADER else []
    odd += sorted(path.name for path in folder.rglob("*") if path.suffix in PICKLED)
    if odd:
        raise RegistryError(
            f"{folder} has files that promote does not write ({', '.join(odd)}), and could run code: "
            "check who changed the registry, and roll back to a version of your own"
        )


class ChampionFollower:
    """Holds the champion, and takes the next one when the alias has moved; requests never wait for it."""

    def __init__(self, registry: Registry) -> None:
        """Load the present champion.

        Raises:
            RegistryError: There is none, or it cannot be served; see `load_version`.
        """
        self.registry, self.told = registry, ""
        if (version := registry.aliases().get(CHAMPION)) is None:
            raise RegistryError(
                f"{registry.name} has no champion: run the pipeline, or look up the name with mlflow ui"
            )
        self.current = load_version(registry, version)

    def look(self) -> None:
        """Ask the registry once; what cannot be loaded is told once, and the old champion goes on."""
        from mlflow.exceptions import MlflowException

        before = self.current.version
        try:
            version = self.registry.aliases().get(CHAMPION)
            if version == before:
                self.told = ""
                return
            if version is None:
                raise RegistryError(f"{self.registry.name} has no champion any more")
            self.current = load_version(self.registry, version)
        except (HeadstartError, MlflowException, OSError) as error:
            if self.told != str(error):
                log.warning("version %s stays in service: %s", before, error)
            self.told = str(error)
            return
        log.info("version %s follows version %s", version, before)

    def follow(self, seconds: float, ended: threading.Event) -> None:
        """Look again and again, until told to end."""
        while not ended.wait(seconds):
            self.look()
