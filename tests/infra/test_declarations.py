"""What infra says of the packages: their licences, and whether a weakness of theirs is known."""

import sys

import pytest

from infra import dependency_audit, licences


def test_the_licences_are_those_of_what_is_installed() -> None:
    assert licences.FILE.read_text() == licences.text(), "run python -m infra.licences"


def test_every_dependency_and_every_packaged_backbone_is_in_the_list() -> None:
    names = {name for kind, name, *_ in licences.rows() if kind == "package"}
    assert {"torch", "zenml", "dvc", "mlflow", "timm", "optuna", "pillow"} <= {name.lower() for name in names}
    assert ("weights", "tf_efficientnet_lite0") in {(kind, name) for kind, name, *_ in licences.rows()}
    assert all(row[3] for row in licences.rows())


def run(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["/nowhere/pip-audit"], "not installed"),
        (run("import time; time.sleep(30)"), "no answer within 0.5 s"),
        (run("raise SystemExit('requests.exceptions.ConnectionError: no route')"), "no route"),
    ],
)
def test_an_audit_that_could_not_be_held_says_so_loudly_and_stops_nobody(
    command: list[str], why: str
) -> None:
    code, says = dependency_audit.audit(command, 0.5 if "sleep" in command[-1] else 60)
    assert code == 0
    assert "DEPENDENCY AUDIT SKIPPED" in says
    assert why in says


def test_a_known_weakness_fails_the_build() -> None:
    code, says = dependency_audit.audit(run("print('pillow 1.0 CVE-1'); raise SystemExit(1)"))
    assert (code, says) == (1, "pillow 1.0 CVE-1")
