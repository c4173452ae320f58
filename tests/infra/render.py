"""Apply every stack in a store of its own, and print as json what ZenML makes of stacks and configs."""

import json
import sys
from typing import Any

from kubernetes.client import ApiClient
from zenml.client import Client
from zenml.config.compiler import Compiler
from zenml.config.pipeline_run_configuration import PipelineRunConfiguration
from zenml.enums import StackComponentType
from zenml.integrations.kubernetes.manifest_utils import (
    build_cron_job_manifest,
    job_template_manifest_from_job,
)
from zenml.stack.utils import validate_stack_component_config
from zenml.utils.env_utils import substitute_env_variable_placeholders

from infra.stack import PREFIX, STACKS, apply_stack, read_stack
from pipelines.finetune import finetune_pipeline
from steps.core.system.code import ROOT

COMPILED = ("local-slurm", "slurm", "kubernetes")
"""Stacks whose orchestrator can be loaded without a cloud's software."""


def components(name: str) -> dict[str, Any]:
    stack = Client().get_stack(f"{PREFIX}{name}")
    return {
        kind.value: [str(part.id), part.flavor_name, part.configuration, str(part.updated)]
        for kind, (part,) in stack.components.items()
    }


def schedulable(name: str) -> bool:
    """Ask the orchestrator's own config class."""
    (part,) = Client().get_stack(f"{PREFIX}{name}").components[StackComponentType.ORCHESTRATOR]
    config = validate_stack_component_config(part.configuration, part.flavor, part.type)
    return bool(config and config.is_schedulable)  # type: ignore[attr-defined]


def compiled(name: str) -> dict[str, Any]:
    """Return what each step ends up with under the stack's config, pipeline and step settings merged."""
    if name == "kubernetes":  # its S3 store would need Amazon's software
        parts = dict(Client().get_stack(f"{PREFIX}{name}").components)
        mixed = {kind: part.id for kind, (part,) in parts.items()} | {
            StackComponentType.ARTIFACT_STORE: "default"
        }
        Client().create_stack("rendered", mixed)
        Client().activate_stack("rendered")
    else:
        Client().activate_stack(f"{PREFIX}{name}")
    stack = Client().active_stack
    config = PipelineRunConfiguration.from_yaml(str(ROOT / f"infra/configs/{name}.yaml"))
    pipeline = finetune_pipeline.copy()
    pipeline.prepare()
    snapshot = Compiler().compile(pipeline, stack, substitute_env_variable_placeholders(config))
    steps = {}
    for step, made in snapshot.step_configurations.items():
        steps[step] = made.config.model_dump(mode="json", include={"settings", "step_operator", "retry"})
        steps[step]["resources"] = made.config.resource_settings.model_dump(mode="json", exclude_unset=True)
        if name == "kubernetes":
            steps[step]["job"] = job(stack.orchestrator, made)
            steps[step]["cron"] = job(stack.orchestrator, made, "0 3 * * *")
        if name == "slurm":
            settings = stack.orchestrator.get_settings(made)
            steps[step]["sbatch"] = settings.words(made.config.resource_settings)  # type: ignore[attr-defined]
    return steps


def job(orchestrator: Any, step: Any, cron: str | None = None) -> Any:
    """Return the manifest that ZenML's orchestrator would send to Kubernetes, as json."""
    # named, so that the orchestrator does not ask the cluster to create it
    settings = orchestrator.get_settings(step).model_copy(update={"service_account_name": "zenml"})
    name = step.config.name.replace("_", "-")
    image = "registry.example.org/headstart:1"
    made = orchestrator._prepare_job_manifest(
        name, ["python"], ["-m", "zenml.entrypoints.entrypoint"], image, {"A": "b"}, {}, {}, settings,
        settings.pod_settings,
    )  # fmt: skip
    if cron:
        made = build_cron_job_manifest(job_template_manifest_from_job(made), cron)
    return ApiClient().sanitize_for_serialization(made)


def main() -> None:
    variables = json.loads(sys.argv[1])
    said: dict[str, Any] = {"applied": {}, "compiled": {}}
    for path in sorted(STACKS.glob("*.yaml")):
        rounds = []
        for _ in range(2):
            lines = apply_stack(f"{PREFIX}{path.stem}", read_stack(path, variables[path.stem]))
            rounds.append([lines, components(path.stem), Client().active_stack_model.name])
        said["applied"][path.stem] = rounds
    said["schedulable"] = [path.stem for path in sorted(STACKS.glob("*.yaml")) if schedulable(path.stem)]
    for name in COMPILED:
        said["compiled"][name] = compiled(name)
    print(json.dumps(said))


if __name__ == "__main__":
    main()
