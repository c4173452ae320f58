"""What is recorded in MLflow. It is imported only where something is recorded.

One run per pipeline run, one nested run per phase that really ran. The parent carries a tag per
phase, `phase.<name>`: reused until the phase starts, then running, ran or failed.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steps import PHASES
from steps.core.system.process_owner import is_alive, process_name
from steps.core.system.storage import RunSummary
from steps.runtime.lineage import lineage_tags
from steps.runtime.mlflow_client import connect, experiment, tracker_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from optuna.trial import FrozenTrial

    from steps.core.training.loop import Epoch

KEY = "headstart.run"
MAX_DIGEST = 36  # characters that MLflow keeps of a data set's digest
OWNER, ENDED = "headstart.owner", "headstart.ended"


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

    def summarise(self, summary: RunSummary) -> None:
        """Show on the run of the whole pipeline what an artifact says of itself."""
        summarise(self.client, self.parent, summary)

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


def summarise(client: "MlflowClient", run: str, summary: RunSummary) -> None:
    """Show a summary on a run: its name, metrics, tags, and the data set as MLflow's data set input."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag

    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, 0) for name, value in summary.metrics.items()]
    tags = [RunTag(name, value) for name, value in summary.tags.items()]
    if metrics or tags:
        client.log_batch(run, metrics, tags=tags)
    if summary.name:
        client.update_run(run, name=summary.name)
    if data := summary.data:
        source, profile = json.dumps({"uri": data["source"]}), json.dumps(data["profile"])
        digest = data["digest"][:MAX_DIGEST]
        known = Dataset(data["name"], digest, "local", source, profile=profile)
        client.log_inputs(run, [DatasetInput(known, [InputTag("mlflow.data.context", "training")])])


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
        "mlflow.parentRunId": record.run, OWNER: process_name(), "study": study,
        "state": trial.state.name.lower(),
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


def record_test_use(test: Iterable[str], digest: str, models: Iterable[str]) -> None:
    """Record that models, by their digests, are shown a test set: its files' SHA-256, and its digest."""
    from steps.core.data.overlap import sketch

    told = " ".join(sorted(set(models)))
    if told and (record := _current.get()):
        tags = {"test_digest": digest, "test_sketch": sketch(test), "shown_to": told}
        record.batch(record.run, tags=tags)


def count_test_uses(test: Iterable[str], digest: str, same: float) -> int:
    """Count the models that a test set was ever shown to; the same one twice counts once.

    It is the same test set where it has the share `same` of the smaller one's files in common.
    """
    from steps.core.data.overlap import shared, sketch

    client, own = connect(), sketch(test)
    found: set[str] = set()
    token = None
    while True:
        page = client.search_runs([experiment(client)], "tags.shown_to LIKE '%'", page_token=token)
        for tags in (run.data.tags for run in page):
            # runs of before there were sketches have the digest alone
            other = tags.get("test_sketch")
            if shared(own, other) >= same if other else tags["test_digest"] == digest:
                found |= set(tags["shown_to"].split())
        if not (token := page.token):
            return len(found)


@contextmanager
def phase_run(run: str, phase: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator[Record]:
    """Open the phase's nested run below the pipeline run with the key `run`, and close both."""
    with tracker_errors():
        yield from record_phase(run, phase, params, tags)


def record_phase(
    run: str, phase: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> Iterator[Record]:
    """Do what `phase_run` says."""
    client = connect()
    fail_stale_runs(client)
    parent = open_parent(client, run)
    nested = client.create_run(
        experiment(client),
        run_name=phase,
        tags={"mlflow.parentRunId": parent, "phase": phase, OWNER: process_name(), **lineage_tags(), **tags},
    )
    record = Record(client, parent, nested.info.run_id)
    record.batch(record.run, params=params, tags={"seed": str(params.get("seed", ""))})
    seed = str(params.get("seed", ""))
    record.batch(parent, tags={OWNER: process_name(), f"phase.{phase}": "running", "seed": seed})
    client.update_run(parent, status="RUNNING")
    token = _current.set(record)
    status, state = "FAILED", "failed"
    try:
        yield record
        status, state = "FINISHED", "ran"
    finally:
        _current.reset(token)
        client.set_tag(parent, f"phase.{phase}", state)
        client.set_terminated(record.run, status)
        client.set_terminated(parent, status)


def fail_stale_runs(client: "MlflowClient") -> None:
    """End the runs of processes that were killed; runs of live processes, and of other machines, stay."""
    where = "attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment(client)], where, max_results=1000):
        if is_alive(run.data.tags.get(OWNER, "")) is not False:
            continue
        for name, state in run.data.tags.items():
            if name.startswith("phase.") and state == "running":
                client.set_tag(run.info.run_id, name, "killed")
        client.set_tag(run.info.run_id, ENDED, "its process was killed; marked by the next run")
        client.set_terminated(run.info.run_id, "KILLED")


def open_parent(client: "MlflowClient", run: str) -> str:
    """Find the pipeline run with this key, or begin it with every phase marked as reused."""
    where = f"tags.`{KEY}` = '{run}'"
    if found := client.search_runs([experiment(client)], where, max_results=1):
        return str(found[0].info.run_id)
    tags = {
        KEY: run,
        OWNER: process_name(),
        **lineage_tags(),
        **{f"phase.{phase}": "reused" for phase in PHASES},
    }
    created = client.create_run(experiment(client), run_name=run, tags=tags)
    client.set_terminated(created.info.run_id)
    return str(created.info.run_id)


def close_parent(run: str, files: Path, summaries: Iterable[RunSummary]) -> None:
    """Make sure that the pipeline run exists, also if no phase ran; attach its report and its summaries."""
    client = connect()
    parent = open_parent(client, run)
    client.log_artifacts(parent, str(files))
    for summary in summaries:
        summarise(client, parent, summary)


def tag_run(run: str, tags: Mapping[str, str]) -> None:
    """Record what a pipeline run came to."""
    client = connect()
    parent = open_parent(client, run)
    for name, value in tags.items():
        client.set_tag(parent, name, value)
