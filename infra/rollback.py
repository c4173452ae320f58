"""Make the previous champion the champion again: `python -m infra.rollback MODEL --why "..."`."""

import argparse
import getpass

from steps.core.system.errors import HeadstartError
from steps.runtime import mlflow_client
from steps.runtime.registry import Registry
from steps.runtime.rollback import roll_back
from steps.runtime.scratch import scratch


def main() -> None:
    """Swap the aliases, record who did it and why, and say what is champion now."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="name of the registered model")
    parser.add_argument("--why", required=True)
    parser.add_argument("--force", action="store_true", help="also to a version that was rolled back before")
    words = parser.parse_args()
    registry = Registry(words.model, mlflow_client.connect())
    try:
        with registry.exclusive(scratch()):
            now, before = roll_back(registry, getpass.getuser(), words.why, words.force)
    except HeadstartError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
    print(f"{words.model}: version {now} is champion, version {before} previous")


if __name__ == "__main__":
    main()
