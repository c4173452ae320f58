"""Kill both engines at random moments inside every phase, start them again, compare with an undisturbed run.

`python -m tests.bench.kill_tests` prints the table and writes artifacts/bench/kill_tests.json.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

import optuna
from mlflow import MlflowClient

from steps import PHASES
from steps.core.system.storage import file_sha256, to_json, write_file
from steps.core.training.checkpoint import Checkpoint
from steps.runtime.phase import load_phase
from tests.clone import Clone, make_clone

COMMANDS = {"zenml": ("zenml", "pipeline", "run", "finetune_pipeline"), "dvc": ("dvc", "repro")}
LONG = {"cache_features": "shards", "cache_prefix": "shards", "search_lr_ratio": "trials",
        "fine_tune": "epochs", "distill": "epochs"}  # fmt: skip
MANY = {name: 3 if name in LONG else 2 for name in PHASES}
SEED = 0
PATIENCE = 600.0  # seconds until a phase that does not begin is a failure of this program


@dataclass(frozen=True)
class Kill:
    """One kill, and what had to be done again after it."""

    engine: str
    phase: str
    seed: str
    seconds: float
    """Into the phase."""
    lost: int
    """Epochs that were finished and not on the disk; trials that have to be begun again; else 0."""


def project(folder: Path, engine: str) -> Clone:
    """Make a copy whose long phases have some shards, epochs and trials to be killed between."""
    clone = make_clone(folder)
    clone.set_params(
        cache_features={"shard_samples": 5},
        search_lr_ratio={"trials": 4, "epochs": 3},
        fine_tune={"epochs": 12, "patience": 12},
        distill={"epochs": 12, "patience": 12},
    )
    if engine == "dvc":
        for words in (("git", "init", "-q"), ("dvc", "init", "-q")):
            assert clone.run(*words).returncode == 0
    return clone


def lines(clone: Clone) -> list[dict[str, Any]]:
    """Return what the runs have written down, in order; a kill may have cut the last line short."""
    found = []
    for file in clone.folder.glob("logs/*.jsonl"):
        for line in file.read_text().splitlines():
            if line.endswith("}"):
                found.append(json.loads(line))
    return sorted(found, key=lambda row: row["time"])


def digests(clone: Clone, engine: str) -> dict[str, str]:
    """Return the digest of every artifact of the last run."""
    if engine == "dvc":
        kinds = {load_phase(name).output: load_phase(name).function for name in PHASES}
        return {name: file_sha256(clone.folder / "artifacts" / name / "artifact.json") for name in kinds}
    last = max(clone.folder.glob("reports/*/report.json"), key=lambda path: path.stat().st_mtime)
    return {load_phase(r["phase"]).output: r["digest"] for r in json.loads(last.read_text())["phases"]}


def seconds_of(clone: Clone) -> dict[str, float]:
    """Return how long each phase took that ended."""
    return {row["phase"]: row["seconds"] for row in lines(clone) if "seconds" in row}


def finish(clone: Clone, engine: str) -> None:
    """Run to the end."""
    done = clone.run(*COMMANDS[engine])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def begun(clone: Clone) -> list[str]:
    """Return the phases that were begun, in order, again and again."""
    return [row["phase"] for row in lines(clone) if row["message"] == "begins"]


def trace(clone: Clone, phase: str) -> object:
    """Return what changes when a phase has got a piece of its work done."""
    place = {"shards": "features/*", "epochs": "training/*", "trials": "search/*/*"}.get(LONG.get(phase, ""))
    if place is None:
        return None
    return sorted((p.name, p.stat().st_mtime_ns) for p in clone.folder.glob(f".headstart/{place}"))


def await_phase(clone: Clone, process: "Popen[str]", phase: str, before: int) -> bool:
    """Wait until `phase` has begun once more than `before` times; say whether it has."""
    for _ in until(process):
        if begun(clone).count(phase) > before:
            return True
    return begun(clone).count(phase) > before


def until(process: "Popen[str]") -> Iterator[None]:
    """Go on while a process runs, patiently."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None:
        assert time.monotonic() < end, "no progress"
        yield
        time.sleep(0.02)


def kill_in(clone: Clone, engine: str, phase: str, seed: str, length: float) -> Kill | None:
    """Start an engine and kill it inside a phase; None if it was too late.

    Every other kill waits for the phase to have got something done, so that there is something to lose.
    """
    chance = random.Random(seed)
    before, process = begun(clone).count(phase), clone.start(*COMMANDS[engine])
    try:
        if not await_phase(clone, process, phase, before):
            raise AssertionError((clone.folder / "output.txt").read_text()[-3000:])
        start = time.monotonic()
        if phase in LONG and chance.random() < 0.7:
            known = trace(clone, phase)
            for _ in until(process):
                if trace(clone, phase) != known or begun(clone)[-1] != phase:
                    break
            time.sleep(chance.uniform(0.0, 0.05 * length))
        else:
            time.sleep(chance.uniform(0.0, 0.7 * length))
        os.killpg(process.pid, signal.SIGKILL)
        seconds = time.monotonic() - start
    except ProcessLookupError:
        return None
    finally:
        stop(process)
    ended = {row["phase"] for row in lines(clone)[-2:] if row["message"].startswith("ended")}
    where = begun(clone)[-1]
    return None if where in ended else Kill(engine, where, seed, round(seconds, 2), lost_in(clone, where))


def stop(process: "Popen[str]") -> None:
    """Make sure that nothing of a process group is left."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(30)
    except TimeoutExpired as error:
        raise AssertionError("a killed process lives on") from error


def lost_in(clone: Clone, phase: str) -> int:
    """Return the pieces of work that a killed phase had told of and had not yet kept."""
    kind = LONG.get(phase)
    if kind == "epochs":
        return max(0, logged_epochs(clone, phase) - kept(clone, phase))
    if kind == "trials":
        return unfinished(clone)
    return 0  # of shards, `kill_repeatedly` asserts that none that was there is made again


def logged_epochs(clone: Clone, phase: str) -> int:
    """Return the epochs that MLflow knows of the phase's last run."""
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.phase = '{phase}'", order_by=["attributes.start_time DESC"])
    if not runs:
        return 0
    return len(client.get_metric_history(runs[0].info.run_id, "val_loss"))


def kept(clone: Clone, phase: str) -> int:
    """Return the epochs that the newest training on the disk has; a control is trained after its student."""
    files = [p for p in clone.folder.glob(".headstart/training/*.safetensors") if "-control" not in p.name]
    if not files:
        return 0
    found = Checkpoint(max(files, key=lambda path: path.stat().st_mtime)).load()
    return len(found[2]) if found else 0


def unfinished(clone: Clone) -> int:
    """Return the trials that are running in the killed search's studies."""
    count = 0
    for file in clone.folder.glob(".headstart/search/*/study.db"):
        storage = f"sqlite:///{file}"
        for study in optuna.get_all_study_names(storage):
            trials = optuna.load_study(study_name=study, storage=storage).get_trials(deepcopy=False)
            count += sum(trial.state == optuna.trial.TrialState.RUNNING for trial in trials)
    return count


def shards(clone: Clone) -> dict[str, int]:
    """Return when each shard was written."""
    return {p.name: p.stat().st_mtime_ns for p in clone.folder.glob(".headstart/features/*.safetensors")}


def kill_repeatedly(
    clone: Clone, engine: str, lengths: Mapping[str, float], wanted: Mapping[str, int]
) -> list[Kill]:
    """Kill an engine `wanted` times inside every phase, then let it end."""
    kills: list[Kill] = []
    known: dict[str, int] = {}
    for phase in PHASES:
        for attempt in range(wanted.get(phase, 0)):
            if any(row["phase"] == phase and row["message"].startswith("ended") for row in lines(clone)):
                break  # it was too quick for us, and is not run again
            seed = f"{SEED}/{engine}/{phase}/{attempt}"
            if kill := kill_in(clone, engine, phase, seed, lengths[phase]):
                kills.append(kill)
                print(kill, file=sys.stderr, flush=True)
            assert all(shards(clone)[name] == when for name, when in known.items()), "a shard was made twice"
            known = shards(clone)
    finish(clone, engine)
    assert all(shards(clone)[name] == when for name, when in known.items()), "a shard was made twice"
    return kills


def still_running(clone: Clone) -> list[str]:
    """Return the MLflow runs that are said to run."""
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    experiments = [e.experiment_id for e in client.search_experiments()]
    return [
        str(run.info.run_name) for run in client.search_runs(experiments, "attributes.status = 'RUNNING'")
    ]


def chaos(
    folder: Path, wanted: Mapping[str, int], engines: tuple[str, ...] = tuple(COMMANDS)
) -> dict[str, Any]:
    """Return a row per engine and phase, and every kill."""
    truth: dict[str, str] = {}
    kills: list[Kill] = []
    rows, begun_at = [], time.monotonic()
    for engine in engines:
        calm = project(folder / f"calm-{engine}", engine)
        finish(calm, engine)
        truth = truth or digests(calm, engine)
        assert digests(calm, engine) == truth
        clone = project(folder / engine, engine)
        # Of the same engine: one that keeps its process imports once, and is through much sooner.
        found = kill_repeatedly(clone, engine, seconds_of(calm), wanted)
        made = digests(clone, engine)
        assert not still_running(clone)
        kills += found
        for phase in PHASES:
            mine = [kill for kill in found if kill.phase == phase]
            noun = load_phase(phase).output
            lost = max((kill.lost for kill in mine), default=0)
            unit = LONG.get(phase, "phase")
            row = {"phase": phase, "engine": engine, "kills": len(mine), "lost": lost, "unit": unit}
            rows.append({**row, "equal": made[noun] == truth[noun]})
    return {"rows": rows, "kills": [asdict(kill) for kill in kills], "seconds": time.monotonic() - begun_at}


def table(rows: list[dict[str, Any]]) -> str:
    """Write the rows as a table."""
    head = "| phase | engine | kills | finished work lost, beside the piece in hand | digests equal |"
    lines = [head, "|---|---|---|---|---|"]
    for row in rows:
        lost = "the phase is the piece" if row["unit"] == "phase" else f"{row['lost']} {row['unit']}"
        lines.append(f"| {row['phase']} | {row['engine']} | {row['kills']} | {lost} | {row['equal']} |")
    return "\n".join(lines)


def main() -> None:
    """Run all of it."""
    with tempfile.TemporaryDirectory(prefix="headstart-kills-") as folder:
        found = chaos(Path(folder), MANY)
    write_file(Path("artifacts/bench/kill_tests.json"), to_json(found))
    print(table(found["rows"]))
    print(f"{len(found['kills'])} kills, {found['seconds']:.0f} s")


if __name__ == "__main__":
    main()
