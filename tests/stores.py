"""Empty databases of MLflow, which takes a second to make one: the first worker makes it, the others copy."""

import os
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from steps.core.system.locks import exclusive_lock


def use_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Record in the store in `folder`, an empty one where there is none."""
    if not (folder / "mlflow.db").exists():
        shutil.copy(empty_store(), folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")


def empty_store() -> Path:
    """Return a database without runs and models."""
    file = Path(os.environ["TESTS_SHARE"], "mlflow.db")
    with exclusive_lock(file.with_suffix(".lock"), "the creation of the empty database"):
        if not file.is_file():
            draft = file.with_suffix(".draft")
            MlflowClient(f"sqlite:///{draft}").search_experiments()
            draft.replace(file)
    return file
