"""Make the previous champion the champion again: `headstart rollback MODEL --why "..."`."""

import getpass
import runpy
import sys

from steps.core.system.errors import HeadstartError
from steps.runtime import mlflow_client
from steps.runtime.registry import Registry
from steps.runtime.rollback import roll_back
from steps.runtime.scratch import scratch


def make_previous_champion(model: str, why: str, force: bool = False) -> None:
    """Swap the aliases, record who did it and why, and say what is champion now.

    Args:
        model: Name of the registered model.
        why: The reason.
        force: Also to a version that was rolled back before.
    """
    registry = Registry(model, mlflow_client.connect())
    try:
        with registry.exclusive(scratch()):
            now, before = roll_back(registry, getpass.getuser(), why, force)
    except HeadstartError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
    print(f"{model}: version {now} is champion, version {before} previous")


if __name__ == "__main__":
    sys.argv[1:1] = ["rollback"]
    runpy.run_module("infra", run_name="__main__")
