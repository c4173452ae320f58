"""Write what makes a machine call `infra.retrain`: `python -m infra.schedule systemd|cron|slurm|next`.

`params.yaml: retraining` is the one place of the schedule. A timer or a crontab only knocks every
`check_minutes`; whether it is time is decided by `infra.retrain`, in the schedule's own zone. Slurm has no
timer: a job submits its successor for the next due moment, and then does its work.
"""

import argparse
import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

from infra.retrain import upcoming
from steps.core.system.code import ROOT
from steps.runtime.params import Retraining
from steps.runtime.phase import all_configs

NAME = "headstart-retraining"
INHERITED_VARIABLES = ("HEADSTART_PARAMS", "HEADSTART_DATA", "HEADSTART_SCRATCH", "ZENML_CONFIG_PATH")
"""Settings without secrets that the scheduled run takes over from the shell that installs it."""


def systemd(when: Retraining) -> dict[str, str]:
    """Return the service and its timer, by file name; `Persistent` makes up for a machine that was off."""
    python = Path(sys.executable)
    kept = "".join(
        f'Environment="{name}={os.environ[name]}"\n' for name in INHERITED_VARIABLES if name in os.environ
    )
    service = f"""[Unit]
Description=Retraining of {ROOT.name}, if it is due
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
WorkingDirectory={ROOT}
Environment="PATH={python.parent}:/usr/bin:/bin"
{kept}ExecStart={python} -m infra.retrain
SuccessExitStatus=75
"""
    timer = f"""[Unit]
Description=Looks every {when.check_minutes} minutes whether a retraining of {ROOT.name} is due

[Timer]
OnCalendar=*:0/{when.check_minutes}
Persistent=true

[Install]
WantedBy=timers.target
"""
    return {f"{NAME}.service": service, f"{NAME}.timer": timer}


def settings() -> str:
    """Return the settings to keep, as a shell takes them."""
    return " ".join(
        f"{name}={shlex.quote(os.environ[name])}" for name in INHERITED_VARIABLES if name in os.environ
    )


def call() -> str:
    """Return the shell command that looks, and runs if it is time."""
    path = shlex.quote(f"{Path(sys.executable).parent}:/usr/bin:/bin")
    return f"cd {shlex.quote(str(ROOT))} && PATH={path} {settings()} {sys.executable} -m infra.retrain"


def cron(when: Retraining) -> str:
    """Return the line of a crontab; its log is kept, and cron mails what is printed beside."""
    line = f"*/{when.check_minutes} * * * * {call()} 2>> {shlex.quote(str(ROOT))}/.headstart/retraining.log"
    return line.replace("%", r"\%") + "\n"


def slurm(when: Retraining) -> str:
    """Return a batch script that submits its successor before it works."""
    root = shlex.quote(str(ROOT))
    return f"""#!/bin/bash
#SBATCH --job-name={NAME}
#SBATCH --chdir={root}
#SBATCH --output={root}/.headstart/retraining-%j.log
# Due {when.cron} in {when.timezone}. Submit once: sbatch --begin="$(python -m infra.schedule next)" SCRIPT
set -euo pipefail
script=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=//p')
next=$({call().replace("infra.retrain", "infra.schedule next")})
sbatch --begin="$next" --dependency=singleton "$script"
{call()}
"""


def main() -> None:
    """Print one form, or write the systemd units into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("form", choices=["systemd", "cron", "slurm", "next"])
    parser.add_argument("--write", type=Path, help="folder for the systemd units, ~/.config/systemd/user say")
    words = parser.parse_args()
    when = all_configs()["retraining"]
    assert isinstance(when, Retraining)
    if words.form == "next":
        moment = next(upcoming(when, datetime.now(UTC)))
        print(moment.astimezone().strftime("%Y-%m-%dT%H:%M:%S"))
    elif words.form == "systemd":
        for name, text in systemd(when).items():
            if words.write:
                words.write.mkdir(parents=True, exist_ok=True)
                (words.write / name).write_text(text)
            else:
                print(f"# {name}\n{text}")
    else:
        print({"cron": cron, "slurm": slurm}[words.form](when), end="")


if __name__ == "__main__":
    main()
