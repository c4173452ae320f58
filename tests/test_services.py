"""The whole pipeline against real servers, by environment variables alone; also when they die."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from steps import PHASES
from steps.runtime.phase import load_phase
from tests.clone import ROOT, Clone, make_clone

pytestmark = pytest.mark.services

HOME = ROOT / ".headstart/test-services"  # beside the project: the servers' environment is used again
SCRIPT = str(ROOT / "infra/local-services.sh")
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
Env = dict[str, str]


def script(word: str) -> None:
    own = {**os.environ, "HEADSTART_SERVICES": str(HOME)}
    done = subprocess.run(["bash", SCRIPT, word], env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def read_env() -> Env:
    words = [word for line in (HOME / "env").read_text().splitlines() for word in line.split()[1:]]
    return dict(word.split("=", 1) for word in words if "=" in word)


@pytest.fixture(scope="module")
def env() -> Iterator[Env]:
    """The servers, fresh, and what a client needs; nothing of them is left."""
    script("erase")
    script("up")
    read = read_env()
    yield read
    script("erase")
    assert not listening(ports(read)), "nothing may be left behind"


def database(env: Env) -> str:
    """The address of the search's database, as PostgreSQL's own tools take it."""
    return env["HEADSTART_STUDY_STORAGE"].replace("+psycopg2", "")


def ports(env: Env) -> set[int]:
    """The ports of MLflow, ZenML, S3 and PostgreSQL."""
    urls = ("MLFLOW_TRACKING_URI", "ZENML_STORE_URL", "AWS_ENDPOINT_URL", "HEADSTART_STUDY_STORAGE")
    return {int(env[key].rpartition(":")[2].partition("/")[0]) for key in urls}


def listening(wanted: set[int]) -> list[tuple[str, int | None]]:
    """The address and the process of everything that listens at one of these ports."""
    return [
        (c.laddr.ip, c.pid)
        for c in psutil.net_connections("inet")
        if c.status == psutil.CONN_LISTEN and c.laddr.port in wanted
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, dict[str, str]]:
    """A clone that DVC has run without any server, and its digests."""
    clone = make_clone(tmp_path_factory.mktemp("alone") / "project")
    for words in (("git", "init", "-q"), ("dvc", "init", "-q")):
        assert clone.run(*words).returncode == 0
    clone.repro()
    return clone, digests(clone)


@pytest.fixture(scope="module")
def served(env: Env, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, dict[str, Any], str]:
    """A clone that ZenML has run on the servers, its report, and what it said."""
    clone = make_clone(tmp_path_factory.mktemp("served") / "project")
    done = clone.run("zenml", "pipeline", "run", "finetune_pipeline", **env)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    page = clone.folder / done.stdout.strip().splitlines()[-1].removeprefix("report: ")
    return clone, json.loads(page.with_suffix(".json").read_text()), said


def digests(clone: Clone) -> dict[str, str]:
    found = {}
    for name in PHASES:
        phase = load_phase(name)
        kind = phase.function.__annotations__["return"].__origin__
        found[name] = kind.load(clone.folder / "artifacts" / phase.output).digest
    return found


def test_no_server_answers_without_its_password_or_off_this_machine(env: Env) -> None:
    for url in (
        f"{env['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search?max_results=1",
        f"{env['ZENML_STORE_URL']}/api/v1/current-user",
    ):
        assert requests.get(url, timeout=30).status_code == 401, url
    assert requests.get(env["AWS_ENDPOINT_URL"], timeout=30).status_code == 403
    import psycopg2

    port = env["HEADSTART_STUDY_STORAGE"].rpartition(":")[2].partition("/")[0]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(host="127.0.0.1", port=port, user="headstart", password="guess", dbname="mlflow")
    assert [ip for ip, _ in listening(ports(env))] == ["127.0.0.1"] * 4


def test_zenml_on_the_servers_and_dvc_without_them_write_equal_digests(
    alone: tuple[Clone, dict[str, str]], served: tuple[Clone, dict[str, Any], str], env: Env
) -> None:
    report = served[1]
    assert {row["phase"]: row["digest"] for row in report["phases"]} == alone[1]
    import boto3
    from mlflow import MlflowClient

    keys = {name: env[name.upper()] for name in ("aws_access_key_id", "aws_secret_access_key")}
    s3 = boto3.client("s3", endpoint_url=env["AWS_ENDPOINT_URL"], region_name="us-east-1", **keys)
    for bucket in ("zenml", "mlflow"):
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] > 10, f"{bucket} is where the artifacts went"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            patch.setenv(name, env[name])
        client = MlflowClient(env["MLFLOW_TRACKING_URI"])
        assert client.get_model_version_by_alias("images", "champion").version
        experiment = client.get_experiment_by_name("finetune_pipeline")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
    assert report["run"] in {run.data.tags.get("headstart.run") for run in runs}
    assert not (served[0].folder / "mlflow.db").exists()


def test_the_trials_of_the_search_are_in_postgresql(
    served: tuple[Clone, dict[str, Any], str], env: Env
) -> None:
    import psycopg2

    connection = psycopg2.connect(database(env))
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from trials")
        assert cursor.fetchone()[0] >= 3
    connection.close()
    assert not list(served[0].folder.rglob("study.db"))


def test_what_dvc_pushed_is_pulled_into_a_clean_clone_without_computing(
    alone: tuple[Clone, dict[str, str]], env: Env, tmp_path: Path
) -> None:
    clone, expected = alone
    pushed = clone.run("dvc", "push", **env)
    assert pushed.returncode == 0, pushed.stderr
    fresh = make_clone(tmp_path / "project")
    (fresh.folder / "dvc.lock").write_bytes((clone.folder / "dvc.lock").read_bytes())
    for words in (("git", "init", "-q"), ("dvc", "init", "-q")):
        assert fresh.run(*words).returncode == 0
    pulled = fresh.run("dvc", "pull", **env)
    assert pulled.returncode == 0, pulled.stderr
    assert digests(fresh) == expected
    again = fresh.run("dvc", "repro", **env)
    assert again.returncode == 0, again.stderr
    assert "Running stage" not in again.stdout


def kill_mlflow() -> None:
    os.killpg(int((HOME / "mlflow.pid").read_text()), signal.SIGKILL)


def kill_postgres() -> None:
    port = int(read_env()["HEADSTART_STUDY_STORAGE"].rpartition(":")[2].partition("/")[0])
    ((_, pid),) = listening({port})
    first = psutil.Process(pid)
    all_of_it = [first, *first.children()]
    for process in all_of_it:
        process.kill()
    psutil.wait_procs(all_of_it, 30)


def test_a_server_that_dies_fails_the_run_in_words_and_running_again_finishes_it(
    alone: tuple[Clone, dict[str, str]], env: Env, tmp_path: Path
) -> None:
    clone = make_clone(tmp_path / "project")
    for words in (("git", "init", "-q"), ("dvc", "init", "-q")):
        assert clone.run(*words).returncode == 0
    die_during(clone, env, kill_mlflow, after="dataset")
    die_during(clone, env, kill_postgres, after="stats")
    done = clone.run("dvc", "repro", **env)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Stage 'validate_data' didn't change" in done.stdout, "what was finished is reused"
    assert digests(clone) == alone[1]


def die_during(clone: Clone, env: Env, kill: Callable[[], None], after: str) -> None:
    """Kill a server once an artifact is there; the run must say so, and the server start again."""
    own = {"PYTHONPATH": str(clone.folder), "HEADSTART_SCRATCH": str(clone.folder / ".headstart")}
    run = psutil.Popen(
        [Path(sys.executable).with_name("dvc"), "repro"],
        cwd=clone.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **env, **PATIENCE, **own},
    )
    while not (clone.folder / "artifacts" / after).is_dir() and run.poll() is None:
        time.sleep(0.05)
    kill()
    said, _ = run.communicate(timeout=300)
    assert run.returncode != 0
    assert "TrackerError" in said
    assert "does not answer" in said
    assert "Traceback" not in said
    script("up")


def test_no_password_is_in_a_log_a_tag_or_an_artifact(
    served: tuple[Clone, dict[str, Any], str], env: Env
) -> None:
    clone, _, said = served
    secrets = [env[key] for key in env if "PASSWORD" in key or key == "AWS_SECRET_ACCESS_KEY"]
    secrets.append(env["HEADSTART_STUDY_STORAGE"].split(":")[2].split("@")[0])
    assert len(set(secrets)) == 4
    assert all(len(secret) >= 32 for secret in secrets)
    assert not [secret for secret in secrets if secret in said]
    kept = {"secrets", "env", "mlflow.ini"}  # the servers' own, which only their owner may read
    assert all((HOME / name).stat().st_mode & 0o077 == 0 for name in kept)
    places = [p for p in (*clone.folder.rglob("*"), *HOME.rglob("*")) if p.is_file()]
    for path in places:
        if path.name in kept or "venv" in path.parts or path.name == "credentials.yaml":
            continue  # ZenML's client keeps what it logs in with in credentials.yaml, for the owner only
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], path
    dump = subprocess.run(
        ["pg_dump", "--data-only", f"{database(env).removesuffix('optuna')}mlflow"],
        capture_output=True,
        text=True,
    )
    assert dump.returncode == 0, dump.stderr
    assert "phase.promote" in dump.stdout, "the tags are in the dump"
    assert not [secret for secret in secrets if secret in dump.stdout]
