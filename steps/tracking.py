"""The one place that talks to MLflow. It is imported only where something is recorded.

One run per pipeline run, one nested run per phase that really ran. The parent carries a tag per
phase, `phase.<name>`: reused until the phase starts, then running, ran or failed.
"""

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from steps import PHASES
from steps.core.errors import TrackerError
from steps.core.lock import alone
from steps.core.owner import living, owner
from steps.lineage import lineage_tags
from steps.scratch import scratch

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from optuna.trial import FrozenTrial

    from steps.core.loop import Epoch

EXPERIMENT = "finetune_pipeline"
KEY = "headstart.run"
OWNER, ENDED = "headstart.owner", "headstart.ended"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class Record:
    """The nested run of the phase that is running."""

    def __init__(self, client: "MlflowClient", parent: str, run: str) -> None:
        self.client, self.parent, self.run = client, parent, run

    def finish(self, name: str, digest: str, headline: Mapping[str, Any], lineage: Mapping[str, str]) -> None:
        """Record the artifact that the phase returned."""
        numbers = {k: float(v) for k, v in headline.items() if isinstance(v, int | float)}
        words = {k: str(v) for k, v in headline.items() if isinstance(v, str)}
        self.batch(self.run, metrics=numbers, tags={f"output.{name}": digest, **words})
        self.batch(self.parent, tags={f"digest.{name}": digest, **lineage})

    def attach(self, files: Mapping[str, bytes | Path]) -> None:
        """Record the files of an artifact that a person can read."""
        for name, content in files.items():
            if isinstance(content, bytes) and name.endswith((".json", ".html")):
                self.client.log_text(self.run, content.decode(), name)

    def batch(
        self,
        run: str,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write metrics, params and tags in one request."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        self.client.log_batch(
            run,
            [Metric(name, value, now, step) for name, value in (metrics or {}).items()],
            [Param(name, str(value)) for name, value in (params or {}).items()],
            [RunTag(name, value) for name, value in (tags or {}).items()],
        )


_current: ContextVar[Record | None] = ContextVar("record", default=None)


def log(metrics: Mapping[str, float], step: int = 0) -> None:
    """Record metrics of the phase that is running; outside of a run, nothing happens."""
    if record := _current.get():
        record.batch(record.run, metrics=metrics, step=step)


def log_epoch(epoch: "Epoch") -> None:
    """Record one epoch of a training."""
    log({k: float(v) for k, v in epoch.numbers().items() if k != "epoch"}, step=epoch.epoch)


def log_trial(study: str, trial: "FrozenTrial") -> None:
    """Record one search trial as a run below the phase's, in three requests whatever its epochs."""
    from mlflow.entities import Metric

    if not (record := _current.get()):
        return
    losses = trial.intermediate_values
    log({"trial_val_loss": min(losses.values(), default=float("nan"))}, step=trial.number)
    tags = {
        "mlflow.parentRunId": record.run, OWNER: owner(), "study": study, "state": trial.state.name.lower(),
    }  # fmt: skip
    run = record.client.create_run(
        experiment(record.client), run_name=f"{study}-{trial.user_attrs['slot']}", tags=tags
    ).info.run_id
    record.batch(run, params={name: repr(value) for name, value in trial.params.items()})
    now = int(time.time() * 1000)
    record.client.log_batch(run, [Metric("val_loss", v, now, step + 1) for step, v in losses.items()])
    record.client.set_terminated(run)


def log_files(folder: Path, path: str | None = None) -> str | None:
    """Record a folder's files; return the run's id, or None outside of a run."""
    if record := _current.get():
        record.client.log_artifacts(record.run, str(folder), path)
        return record.run
    return None


def look(test: str, model: str) -> None:
    """Record that a model was shown a test set, both by their digests."""
    if record := _current.get():
        record.batch(record.run, tags={"test_digest": test, "shown_to": model})


def looks(test: str) -> int:
    """Count the models that a test set was ever shown to; the same one twice counts once."""
    client = connect()
    where, found, token = f"tags.test_digest = '{test}'", set(), None
    while True:
        page = client.search_runs([experiment(client)], where, page_token=token)
        found |= {run.data.tags["shown_to"] for run in page}
        if not (token := page.token):
            return len(found)


@contextmanager
def phase_run(run: str, phase: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator[Record]:
    """Open the phase's nested run below the pipeline run with the key `run`, and close both."""
    with answering():
        yield from record_phase(run, phase, params, tags)


def record_phase(
    run: str, phase: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> Iterator[Record]:
    """Do what `phase_run` says."""
    client = connect()
    bury_the_dead(client)
    parent = open_parent(client, run)
    nested = client.create_run(
        experiment(client),
        run_name=phase,
        tags={"mlflow.parentRunId": parent, "phase": phase, OWNER: owner(), **lineage_tags(), **tags},
    )
    record = Record(client, parent, nested.info.run_id)
    record.batch(record.run, params=params, tags={"seed": str(params.get("seed", ""))})
    seed = str(params.get("seed", ""))
    record.batch(parent, tags={OWNER: owner(), f"phase.{phase}": "running", "seed": seed})
    client.update_run(parent, status="RUNNING")
    token = _current.set(record)
    status, word = "FAILED", "failed"
    try:
        yield record
        status, word = "FINISHED", "ran"
    finally:
        _current.reset(token)
        client.set_tag(parent, f"phase.{phase}", word)
        client.set_terminated(record.run, status)
        client.set_terminated(parent, status)


def bury_the_dead(client: "MlflowClient") -> None:
    """End the runs of processes that were killed; those of living ones, and of other machines, stay."""
    where = "attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment(client)], where, max_results=1000):
        if living(run.data.tags.get(OWNER, "")) is not False:
            continue
        for name, word in run.data.tags.items():
            if name.startswith("phase.") and word == "running":
                client.set_tag(run.info.run_id, name, "killed")
        client.set_tag(run.info.run_id, ENDED, "its process was killed; the next run has found that out")
        client.set_terminated(run.info.run_id, "KILLED")


@contextmanager
def answering() -> Iterator[None]:
    """Raise TrackerError where the tracker has stopped to answer; MLflow has tried again before.

    How often: $MLFLOW_HTTP_REQUEST_MAX_RETRIES, each time after twice as long.
    """
    where = urlsplit(connect().tracking_uri)
    from mlflow.exceptions import MlflowException  # after `connect` has silenced it

    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):
            raise
        raise TrackerError(
            f"MLflow at {where.hostname or where.path}:{where.port or where.scheme} does not answer "
            f"({str(error).splitlines()[0][:160]}): see that it runs, then start the same command again; "
            "what is finished is reused"
        ) from error


def connect() -> "MlflowClient":
    """Return a client of $MLFLOW_TRACKING_URI, or of mlflow.db here, which `mlflow ui` opens too."""
    for switch, setting in QUIET.items():
        os.environ.setdefault(switch, setting)
    return _connect(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd()}/mlflow.db")


@cache
def _connect(uri: str) -> "MlflowClient":
    from mlflow import MlflowClient

    if not uri.startswith("sqlite:"):
        return MlflowClient(uri)
    file = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    with alone(scratch() / "locks" / "mlflow.lock", "the creation of the tracking database"):
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


def open_parent(client: "MlflowClient", run: str) -> str:
    """Find the pipeline run with this key, or begin it with every phase marked as reused."""
    where = f"tags.`{KEY}` = '{run}'"
    if found := client.search_runs([experiment(client)], where, max_results=1):
        return str(found[0].info.run_id)
    tags = {KEY: run, OWNER: owner(), **lineage_tags(), **{f"phase.{phase}": "reused" for phase in PHASES}}
    created = client.create_run(experiment(client), run_name=run, tags=tags)
    client.set_terminated(created.info.run_id)
    return str(created.info.run_id)


def close_parent(run: str, files: Path) -> None:
    """Make sure that the pipeline run exists, also if no phase ran, and attach its report."""
    client = connect()
    client.log_artifacts(open_parent(client, run), str(files))


def tag_run(run: str, tags: Mapping[str, str]) -> None:
    """Record what a pipeline run came to."""
    client = connect()
    parent = open_parent(client, run)
    for name, value in tags.items():
        client.set_tag(parent, name, value)


def download(uri: str, folder: str) -> str:
    """Fetch an artifact folder of the tracker; return where it lies."""
    from mlflow.artifacts import download_artifacts

    return str(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=connect().tracking_uri))


def save_served_model(target: Path, classifier: Path, meta: Mapping[str, Any]) -> None:
    """Write an MLflow model that `mlflow models serve` can start: code and plain files, no pickle."""
    root = Path(__file__).resolve().parent
    wanted = ("torch", "torchvision", "timm", "accelerate", "safetensors", "pandas", "pydantic")
    with warnings.catch_warnings():
        # advice about type hints and examples: the signature says what goes in
        warnings.simplefilter("ignore", UserWarning)
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types.schema import ColSpec, Schema

        mlflow.pyfunc.save_model(
            str(target),
            python_model=str(root.parent / "infra/served_model.py"),
            artifacts={"classifier": str(classifier)},
            code_paths=[str(root)],
            signature=ModelSignature(inputs=Schema([ColSpec("string", "image")])),
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in wanted],
            metadata={"labels": meta["labels"], "backbone": meta["backbone"]},
        )
