"""Hand a pipeline to the scheduler of the active stack: `python -m infra.cloud_schedule NAME PIPELINE`.

The pipeline is named as ZenML names it, `pipelines.finetune.finetune_pipeline`, and runs with the config of
the stack NAME. When it runs is said once, by `retraining.cron` of params.yaml; --cron says something else.
"""

import argparse
from pathlib import Path

from zenml.client import Client
from zenml.config.schedule import Schedule
from zenml.pipelines.pipeline_definition import Pipeline
from zenml.utils import source_utils

from infra.stack import PREFIX
from steps.core.system.errors import ClusterError, HeadstartError, ParamsError
from steps.runtime.params import load_params, params_path

CONFIGS = Path(__file__).with_name("configs")


def cron(given: str | None) -> str:
    """Return when, as the five fields of cron, in UTC: the clouds' schedulers know no other zone.

    Raises:
        ParamsError: Nothing says when, or params.yaml says it in another zone.
    """
    if given:
        return given
    path = params_path()
    schedule = load_params(path).get("retraining", {})
    if "cron" not in schedule:
        raise ParamsError(f"{path} has no retraining.cron: set it, or say --cron '0 3 * * *'")
    if (zone := schedule.get("timezone", "UTC")) != "UTC":
        raise ParamsError(
            f"retraining.timezone is {zone}, a stack's scheduler counts in UTC: say --cron in UTC"
        )
    return str(schedule["cron"])


def attach(name: str, pipeline: Pipeline, when: str) -> None:
    """Register the schedule, with the stack's config.

    Raises:
        ClusterError: Another stack is active, or it has no scheduler.
    """
    stack = Client().active_stack
    if stack.name != f"{PREFIX}{name}":
        raise ClusterError(f"{stack.name} is the active stack, not {PREFIX}{name}: make stack NAME={name}")
    if not stack.orchestrator.config.is_schedulable:
        raise ClusterError(f"{stack.name} has no scheduler: let cron or a systemd timer start the run")
    plan = Schedule(name=f"{PREFIX}{name}", cron_expression=when)
    pipeline.with_options(config_path=str(CONFIGS / f"{name}.yaml"), schedule=plan)()


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help=f"a stack that has a file in {CONFIGS}")
    parser.add_argument("pipeline")
    parser.add_argument("--cron", help="five fields, UTC")
    words = parser.parse_args()
    try:
        when = cron(words.cron)
        attach(words.name, source_utils.load(words.pipeline), when)
    except HeadstartError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None


if __name__ == "__main__":
    main()
