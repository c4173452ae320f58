"""What the machine is given is what systemd, cron and a shell accept."""

import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from infra import schedule
from steps.core.system.code import ROOT
from steps.core.system.errors import ParamsError
from steps.runtime.params import Retraining
from steps.runtime.phase import all_configs

WHEN = Retraining(cron="30 2 * * *", timezone="Europe/Zurich", check_minutes=15)
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")


def test_the_timer_knocks_as_often_as_params_say_and_makes_up_for_a_machine_that_was_off() -> None:
    timer = schedule.systemd(WHEN)["headstart-retraining.timer"]
    assert "OnCalendar=*:0/15\n" in timer
    assert "Persistent=true\n" in timer


@needs_systemd
def test_systemd_itself_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for name, text in schedule.systemd(WHEN).items():
        (tmp_path / name).write_text(text)
    files = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    asked = subprocess.run(["systemd-analyze", "calendar", "*:0/15"], capture_output=True, text=True)
    assert "*-*-* *:00/15:00" in asked.stdout


def test_the_line_of_the_crontab_has_five_fields_and_no_bare_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_DATA", "/data/50% off")
    line = schedule.cron(WHEN)
    assert line.startswith("*/15 * * * * cd ")
    assert line.count("\n") == 1
    assert "'/data/50\\% off'" in line


def test_the_batch_script_is_a_shell_script_that_submits_its_successor_before_it_works() -> None:
    script = schedule.slurm(WHEN)
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert script.index('sbatch --begin="$next" --dependency=singleton') < script.rindex("-m infra.retrain")


def test_the_schedule_stands_in_params_and_its_mistakes_are_told(tmp_path: Path) -> None:
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    path = tmp_path / "params.yaml"
    params["retraining"] = {"cron": "61 3 * * *", "timezone": "Mars/Olympus", "check_minutes": 10}
    YAML().dump(params, path)
    with pytest.raises(ParamsError) as caught:
        all_configs(path)
    assert "retraining.cron: found '61 3 * * *', expected five fields of cron" in str(caught.value)
    assert "retraining.timezone: found 'Mars/Olympus', expected a time zone" in str(caught.value)
