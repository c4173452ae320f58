"""Every phase as a ZenML step, made from its signature: `pipelines.phases.<phase>`."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zenml import get_step_context, step
from zenml.config.cache_policy import CachePolicy
from zenml.steps.base_step import BaseStep

from pipelines import step_errors
from pipelines.materializer import ArtifactMaterializer
from pipelines.step_rows import show_reused
from steps import ASKING, BATCH, PHASES, RETRAINING, UNCACHED
from steps.core.data.files import HUB
from steps.core.data.layouts import list_samples
from steps.core.modalities.registry import Known
from steps.core.system.errors import DataError, TrackerError
from steps.core.system.storage import Artifact, file_sha256
from steps.promote import Promote
from steps.runtime import mlflow_client
from steps.runtime.journal import journal
from steps.runtime.params import load_params, modality_packages, params_path
from steps.runtime.phase import Phase, all_configs, load_phase
from steps.runtime.registry import Registry
from steps.runtime.registry_state import state_to_compare
from steps.runtime.run import execute
from steps.runtime.scratch import scratch


def entrypoint(phase: Phase) -> Callable[..., Artifact]:
    """Wrap a phase's function so that it runs as a nested run of the ZenML run."""

    @functools.wraps(phase.function)
    def run(**arguments: Any) -> Artifact:
        cfg, name = arguments.pop("cfg"), get_step_context().pipeline_run.name
        with step_errors.RecordError(name, phase.name), journal(name, phase.name):
            show_reused(name)
            return execute(phase, arguments, cfg, name)

    run.__module__ = __name__
    return run


def data_fingerprint() -> list[str]:
    """Return names, sizes and times of the data set's files: what is compared before ingesting."""
    path = str(load_params(params_path()).get("ingest_data", {}).get("path"))
    if path.startswith(HUB):
        return [path]  # a data set of the hub is fetched once
    try:
        folder, names = list_samples(path, scratch(), Known(tuple(modality_packages())))
    except DataError as error:
        return [f"{path}: {error}"]  # the phase itself says so better
    return [path, *(f"{name} {folder.stamp(name)}" for name in names)]


def file_fingerprint(key: str) -> str:
    """Return the digest of the file that a key of params.yaml names, or its name if there is none."""
    section, _, field = key.partition(".")
    name = str(load_params(params_path()).get(section, {}).get(field))
    return file_sha256(Path(name)) if Path(name).is_file() else name


def registry_fingerprint() -> str:
    """Return the registry's state, in which a promotion's own moves make no difference."""
    cfg = all_configs()["promote"]
    assert isinstance(cfg, Promote)
    try:
        with mlflow_client.tracker_errors():
            return state_to_compare(Registry(cfg.model(), mlflow_client.connect()), scratch())
    except TrackerError as error:
        return str(error)  # the phase itself says so better


def fingerprint(phase: Phase) -> Callable[[], str] | None:
    """Make the function by which ZenML sees what a phase reads beside its inputs; None for nothing."""
    if phase.inputs and not phase.watched and phase.name not in ASKING:
        return None

    def fingerprint_now() -> str:
        facts = [*map(file_fingerprint, phase.watched), *([] if phase.inputs else data_fingerprint())]
        facts += [registry_fingerprint()] if phase.name in ASKING else []
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    name = f"fingerprint_of_{phase.name}"  # ZenML finds it again by this name
    fingerprint_now.__name__ = fingerprint_now.__qualname__ = name
    globals()[name] = fingerprint_now
    return fingerprint_now


def as_step(phase: Phase) -> BaseStep:
    """Make the ZenML step of a phase; it is cached by content, params and code, helpers included."""
    policy = CachePolicy(
        include_artifact_ids=False,
        file_dependencies=phase.code,
        cache_func=fingerprint(phase),
    )
    decorate = step(
        name=phase.name,
        enable_cache=phase.name not in UNCACHED,
        cache_policy=policy,
        output_materializers=ArtifactMaterializer,
    )
    return decorate(entrypoint(phase))


globals().update({name: as_step(load_phase(name)) for name in dict.fromkeys((*PHASES, *RETRAINING, *BATCH))})
