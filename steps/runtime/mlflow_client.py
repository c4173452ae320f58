"""MLflow's client, and what is done with it outside of a phase's record; see `steps.runtime.tracking`."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from steps.core.system.code import ROOT
from steps.core.system.errors import TrackerError
from steps.core.system.locks import exclusive_lock
from steps.core.system.secrets import mask_error
from steps.runtime.scratch import scratch

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "finetune_pipeline"
QUIET_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


@contextmanager
def tracker_errors() -> Iterator[None]:
    """Raise TrackerError where the tracker has stopped to answer; MLflow has tried again before.

    How often: $MLFLOW_HTTP_REQUEST_MAX_RETRIES, each time after twice as long.
    """
    where = urlsplit(connect().tracking_uri)
    from mlflow.exceptions import MlflowException  # after `connect` has silenced it

    try:
        yield
    except MlflowException as error:
        mask_error(error)
        if error.error_code not in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):
            raise
        raise TrackerError(
            f"MLflow at {where.hostname or where.path}:{where.port or where.scheme} does not answer "
            f"({str(error).splitlines()[0][:160]}): see that it runs, then start the same command again; "
            "finished phases are reused"
        ) from error


def connect() -> "MlflowClient":
    """Return a client of $MLFLOW_TRACKING_URI, or of mlflow.db here, which `mlflow ui` opens too."""
    for switch, setting in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(switch, setting)
    return _connect(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd()}/mlflow.db")


@cache
def _connect(uri: str) -> "MlflowClient":
    from mlflow import MlflowClient

    if not uri.startswith("sqlite:"):
        return MlflowClient(uri)
    file = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    with exclusive_lock(scratch() / "locks" / "mlflow.lock", "the creation of the tracking database"):
        if not file.exists():  # made beside it and renamed: a kill in between leaves no half of a database
            draft = file.with_name(f"{file.name}.draft")
            draft.unlink(missing_ok=True)
            draft.with_name(f"{draft.name}-journal").unlink(missing_ok=True)
            MlflowClient(f"sqlite:///{draft}").search_experiments(max_results=1)
            draft.replace(file)
        client = MlflowClient(uri)  # two that create one file at once would leave it broken
        client.search_experiments(max_results=1)
    return client


def experiment(client: "MlflowClient") -> str:
    """Return the id of the experiment, created on first use."""
    found = client.get_experiment_by_name(EXPERIMENT)
    return str(found.experiment_id if found else client.create_experiment(EXPERIMENT))


def download(uri: str, folder: str) -> str:
    """Fetch an artifact folder of the tracker; return where it lies."""
    from mlflow.artifacts import download_artifacts

    return str(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=connect().tracking_uri))


def save_served_model(target: Path, classifier: Path, meta: Mapping[str, Any]) -> None:
    """Write an MLflow model that `mlflow models serve` can start: code and plain files, no pickle."""
    wanted = (
        "torch",
        "torchvision",
        "timm",
        "accelerate",
        "safetensors",
        "pandas",
        "pydantic",
        "onnxruntime",
    )
    with warnings.catch_warnings():
        # advice about type hints and examples: the signature says what goes in
        warnings.simplefilter("ignore", UserWarning)
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types.schema import ColSpec, Schema

        mlflow.pyfunc.save_model(
            str(target),
            python_model=str(ROOT / "infra/served_model.py"),
            artifacts={"classifier": str(classifier)},
            code_paths=[str(ROOT / "steps")],
            signature=ModelSignature(inputs=Schema([ColSpec("string", meta["modality"])])),
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in wanted],
            metadata={"labels": meta["labels"], "backbone": meta["backbone"]},
        )
