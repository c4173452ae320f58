"""Slurm's own commands: submit a job, look at jobs, cancel them. Nothing here knows ZenML."""

import logging
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steps.core.system.errors import ClusterError

log = logging.getLogger("headstart")

COMPLETED, GONE = "COMPLETED", "GONE"
UNFINISHED_STATES = {
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "COMPLETING",
    "SUSPENDED",
    "REQUEUED",
    "RESIZING",
    "STOPPED",
}
"""States that are not the end; every other one is (COMPLETED, FAILED, NODE_FAIL, TIMEOUT, ...)."""
PATIENCE = 300  # seconds without an answer from the controller until the run is given up


@dataclass(frozen=True)
class Job:
    """What Slurm says of a job."""

    state: str
    reason: str = ""
    node: str = ""

    @property
    def ended(self) -> bool:
        """Whether it will never run again."""
        return self.state not in UNFINISHED_STATES

    def __str__(self) -> str:
        place = f" on {self.node}" if self.node else ""
        why = f" ({self.reason})" if self.reason not in ("", "None") and self.state != "RUNNING" else ""
        return f"{self.state.lower()}{place}{why}"


def call(*words: str, text: str | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run one of Slurm's commands; return what it prints.

    Raises:
        ClusterError: There is no such command here, or it refuses.
    """
    try:
        done = subprocess.run(words, input=text, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ClusterError(
            f"{words[0]} is not installed here: start the run where jobs can be submitted, or choose another "
            "stack with `make stack NAME=local`"
        ) from None
    if done.returncode:
        raise ClusterError(f"{shlex.join(words)}\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def submit(
    name: str,
    command: Sequence[str],
    log_file: Path,
    words: Sequence[str],
    environment: Mapping[str, str],
    after: Sequence[int] = (),
) -> int:
    """Submit a job that runs `command` here after the jobs `after` have succeeded; return its number.

    The environment travels by Slurm's own way, so that no token is written into a script. A job whose node
    is lost is not put in the queue again by Slurm: its phase might still be running there.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    line = ["sbatch", "--parsable", "--no-requeue", "--export=ALL", f"--job-name={name}"]
    line += [f"--chdir={Path.cwd()}", f"--output={log_file}", *words]
    if after:
        numbers = ":".join(map(str, after))
        line += [f"--dependency=afterok:{numbers}", "--kill-on-invalid-dep=yes"]
    script = f"#!/bin/sh\nexec {shlex.join(command)}\n"
    return int(call(*line, text=script, environment=environment).split(";")[0])


def query_jobs(numbers: Sequence[int]) -> dict[int, Job]:
    """Return what Slurm knows of the jobs; one that it has forgotten is GONE.

    Raises:
        ClusterError: The controller does not answer.
    """
    found = dict.fromkeys(numbers, Job(GONE))
    words = ("squeue", "--noheader", "--states=all", "--format=%i|%T|%r|%N")
    try:
        lines = call(*words, f"--jobs={','.join(map(str, numbers))}").splitlines()
    except ClusterError as error:
        if "Invalid job id" not in str(error):
            raise
        return found  # none of them is known any more
    for line in lines:
        number, state, reason, node = line.split("|")
        found[int(number)] = Job(state, reason, node)
    return found


def cancel(numbers: Sequence[int]) -> None:
    """Cancel the jobs that have not ended."""
    if numbers:
        call("scancel", "--quiet", *map(str, numbers))


def follow(numbers: Sequence[int], seconds: float) -> Iterator[dict[int, Job]]:
    """Yield what Slurm says of the jobs, every few seconds, until all have ended.

    A controller that does not answer is waited for: the jobs go on without it.

    Raises:
        ClusterError: It has not answered for PATIENCE seconds.
    """
    answered, last = time.monotonic(), dict.fromkeys(numbers, Job("PENDING"))
    while not all(job.ended for job in last.values()):
        time.sleep(seconds)
        try:
            # What has ended stays as it was seen: Slurm forgets it after a while.
            fresh = query_jobs(numbers)
            last = {number: job if job.ended else fresh[number] for number, job in last.items()}
            answered = time.monotonic()
        except ClusterError as error:
            if time.monotonic() - answered > PATIENCE:
                raise ClusterError(
                    f"{error}\nThe controller has not answered for {PATIENCE} s. The jobs "
                    f"{', '.join(map(str, numbers))} may still be running: see squeue, end them with scancel"
                ) from None
            log.warning("Slurm does not answer, waiting: %s", str(error).splitlines()[-1])
        yield last
