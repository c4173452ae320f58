"""One adapter that stores every artifact by the artifact's own save and load."""

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from zenml.enums import ArtifactType
from zenml.io import fileio
from zenml.materializers.base_materializer import BaseMaterializer
from zenml.metadata.metadata_types import MetadataType

from pipelines.step_errors import record_step_errors
from steps.core.system.storage import INDEX, Artifact

CONTENT = "content"
HEADLINE = "headline"


class ArtifactMaterializer(BaseMaterializer):
    """Keeps an artifact as its folder of plain files; a local store is read in place, not copied."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (Artifact,)
    ASSOCIATED_ARTIFACT_TYPE: ClassVar[ArtifactType] = ArtifactType.DATA

    def save(self, data: Artifact) -> None:
        """Write to the artifact store."""
        target = f"{self.uri}/{CONTENT}"
        if Path(self.uri).is_dir():
            with record_step_errors():
                data.save(Path(target))
            return
        with record_step_errors(), tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / CONTENT
            data.save(local)
            for path in sorted(local.rglob("*")):
                remote = f"{target}/{path.relative_to(local).as_posix()}"
                if path.is_dir():
                    fileio.makedirs(remote)
                else:
                    fileio.makedirs(remote.rsplit("/", 1)[0])
                    fileio.copy(str(path), remote)

    def load(self, data_type: type[Any]) -> Any:
        """Read from the artifact store; a remote one is copied to a folder that ends with the step."""
        source = f"{self.uri}/{CONTENT}"
        if Path(source).is_dir():
            with record_step_errors():
                return data_type.load(Path(source))
        # Not deleted at the end of this call: what is memory-mapped is read while the step runs.
        with self.get_temporary_directory(delete_at_exit=False, delete_after_step_execution=True) as folder:
            local = Path(folder) / CONTENT
            copy_tree(source, local)
            return data_type.load(local)

    def extract_metadata(self, data: Artifact) -> dict[str, MetadataType]:
        """Show digest and headline in ZenML."""
        return {"digest": data.digest, HEADLINE: {**data.headline()}}

    def compute_content_hash(self, data: Artifact) -> str | None:
        """Let ZenML reuse by content: equal bytes are the same input."""
        return data.digest


def copy_tree(source: str, target: Path) -> None:
    """Copy a folder out of the artifact store, the index last: it makes the folder an artifact."""
    for folder, _, names in fileio.walk(source):
        folder = str(folder)
        inner = folder.removeprefix(source).strip("/")
        (target / inner).mkdir(parents=True, exist_ok=True)
        for name in sorted(map(str, names), key=lambda n: n == INDEX):
            with fileio.open(f"{folder}/{name}", "rb") as file, (target / inner / name).open("wb") as out:
                shutil.copyfileobj(file, out)
