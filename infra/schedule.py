"""Let a stack's own scheduler run the pipeline: `python -m infra.schedule NAME [--cron "0 3 * * *"]`.

The time is `retraining.cron` of params.yaml where nothing else is said. Machines without such a scheduler, a
laptop or a Slurm cluster, are served by cron or a systemd timer.
"""

import argparse
from pathlib import Path

from zenml.client import Client
from zenml.config.schedule import Schedule

from infra.stack import PREFIX
from steps.config import load_params, params_path
from steps.core.errors import ClusterError, HeadstartError, ParamsError

CONFIGS = Path(__file__).with_name("configs")


def cron(given: str | None) -> str:
    """Return when: the five fields of cron, in UTC."""
    if found := given or load_params(params_path()).get("retraining", {}).get("cron"):
        return str(found)
    raise ParamsError(f"{params_path()} has no retraining.cron: set it, or say --cron '0 3 * * *'")


def schedule(name: str, when: str) -> None:
    """Hand the pipeline, with the stack's config, to the stack's scheduler."""
    from pipelines.finetune import finetune_pipeline

    stack = Client().active_stack
    if stack.name != f"{PREFIX}{name}":
        raise ClusterError(
            f"{stack.name} is the active stack, expected {PREFIX}{name}: make stack NAME={name}"
        )
    if not stack.orchestrator.config.is_schedulable:
        raise ClusterError(f"{stack.name} has no scheduler; infra/README.md says how cron or systemd serve")
    plan = Schedule(name=f"{PREFIX}{name}", cron_expression=when)
    finetune_pipeline.with_options(config_path=str(CONFIGS / f"{name}.yaml"), schedule=plan)()


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help=f"a stack that has a file in {CONFIGS}")
    parser.add_argument("--cron")
    words = parser.parse_args()
    try:
        schedule(words.name, cron(words.cron))
    except HeadstartError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None


if __name__ == "__main__":
    main()
