"""Run the retraining pipeline if it is due: `python -m infra.retrain`, which timers call again and again.

It ends with 0 where nothing was due or the run was well, with the run's own exit code where that failed, and
with 75 (try again later) where another one is running.
"""

import ctypes
import itertools
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from croniter import croniter

from infra.lease import LeaseTaken, lease
from steps.core.system.errors import HeadstartError
from steps.core.system.storage import to_json, write_file
from steps.runtime.params import Retraining
from steps.runtime.phase import all_configs
from steps.runtime.scratch import scratch

COMMAND = ("zenml", "pipeline", "run", "retraining_pipeline")
LEASE_SECONDS, RENEW_SECONDS = 900.0, 60.0  # seconds: of the lease, and between two prolongations
BUSY = 75  # EX_TEMPFAIL
PR_SET_PDEATHSIG = 1  # linux/prctl.h
CHANGE = timedelta(hours=2)  # more than clocks are ever changed by

log = logging.getLogger("headstart")


def upcoming(when: Retraining, since: datetime) -> Iterator[datetime]:
    """Yield, in UTC, the moments after `since` at which the schedule is due.

    The fields mean wall-clock time in the schedule's zone. A time that a change to summer time skips is due
    as much later as the clocks went on; one that occurs twice is due the first time.
    """
    zone = ZoneInfo(when.timezone)
    times = croniter(when.cron, since.astimezone(zone).replace(tzinfo=None) - CHANGE)
    last = since
    while True:
        moment = times.get_next(datetime).replace(tzinfo=zone).astimezone(UTC)
        if moment > last:
            last = moment
            yield moment


def missed(when: Retraining, since: datetime, now: datetime) -> int:
    """Count the due moments after `since`, up to `now`."""
    return sum(1 for _ in itertools.takewhile(lambda moment: moment <= now, upcoming(when, since)))


def is_due(when: Retraining, file: Path, now: datetime) -> bool:
    """Look up when a run last began, and say whether one is due; several missed ones are one."""
    if not file.is_file():
        log.info("retraining: never run on this machine; running now")
        return True
    since = datetime.fromisoformat(json.loads(file.read_bytes())["begun"])
    count = missed(when, since, now)
    if count == 0:
        log.info("retraining: not due before %s", next(upcoming(when, now)).isoformat())
    elif count > 1:
        log.warning("retraining: %d runs were due since %s; running once", count, since.isoformat())
    return count > 0


def run(renew: Callable[[], None]) -> int:
    """Run the pipeline as it is typed, holding the lease meanwhile; return its exit code."""
    child = subprocess.Popen(COMMAND, preexec_fn=die_with_parent)
    try:
        while True:
            try:
                return child.wait(RENEW_SECONDS)
            except subprocess.TimeoutExpired:
                renew()
    finally:
        child.kill()  # where the lease is lost; one that has ended does not mind


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies, however: no run goes on without its lease."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def alert(message: str) -> None:
    """Tell the stack's alerter, if it has one."""
    from zenml.client import Client

    if alerter := Client().active_stack.alerter:
        alerter.post(message)


def attempt(when: Retraining, folder: Path, now: datetime, at_once: bool) -> int:
    """Run if it is due or `at_once`, alone, and record it; return the exit code."""
    file = folder / "last.json"
    with lease(folder / "lease.json", LEASE_SECONDS) as renew:
        if not at_once and not is_due(when, file, now):
            return 0
        code = run(renew)
        # Recorded at the end: a run that was killed with this process is still due when it starts again.
        write_file(file, to_json({"begun": now.isoformat(), "exit_code": code}))
    if code != 0:
        message = f"retraining: the run that began at {now.isoformat()} failed with exit code {code}"
        log.error(message)
        alert(message)
    return code if code >= 0 else 128 - code  # as a shell says that a signal ended it


def start(at_once: bool) -> None:
    """Read the schedule, and run if it is time or `at_once`; ends the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        when = all_configs()["retraining"]
        assert isinstance(when, Retraining)
        sys.exit(attempt(when, scratch() / "retraining", datetime.now(UTC), at_once))
    except LeaseTaken as error:
        log.warning("retraining: not started: %s", error)
        sys.exit(BUSY)
    except HeadstartError as error:
        log.error("retraining: %s: %s", type(error).__name__, error)
        sys.exit(1)


if __name__ == "__main__":
    start("--now" in sys.argv[1:])
