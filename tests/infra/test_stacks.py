"""Stacks are what their files say: applied twice they are the same, and nothing in a config is ignored.

ZenML's flavors import without the software of their clouds, so every component's flavor and configuration is
checked by ZenML itself while the stack is registered. The steps are compiled, as a run would, where the
orchestrator can be loaded here: slurm, local-slurm and kubernetes, whose jobs are rendered and held against
Kubernetes' own schemas. For the others their settings are checked by ZenML's settings classes.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML
from zenml.config.docker_settings import DockerBuildOptions, DockerSettings
from zenml.config.pipeline_run_configuration import PipelineRunConfiguration
from zenml.config.resource_settings import ResourceSettings
from zenml.config.step_configurations import StepConfigurationUpdate
from zenml.integrations.aws.flavors.sagemaker_orchestrator_flavor import SagemakerOrchestratorSettings
from zenml.integrations.azure.flavors.azureml_orchestrator_flavor import AzureMLOrchestratorSettings
from zenml.integrations.gcp.flavors.vertex_orchestrator_flavor import VertexOrchestratorSettings
from zenml.integrations.kubeflow.flavors.kubeflow_orchestrator_flavor import KubeflowOrchestratorSettings
from zenml.integrations.kubernetes.flavors.kubernetes_orchestrator_flavor import (
    KubernetesOrchestratorSettings,
)
from zenml.integrations.kubernetes.pod_settings import KubernetesPodSettings
from zenml.integrations.skypilot_aws.flavors.skypilot_orchestrator_aws_vm_flavor import (
    SkypilotAWSOrchestratorSettings,
)

from infra.cloud_schedule import cron
from infra.stack import STACKS, read_stack
from pipelines.slurm import SlurmSettings
from steps import PHASES
from steps.core.system.code import ROOT
from steps.core.system.errors import ClusterError, ParamsError

CONFIGS = {path.stem: YAML(typ="safe").load(path) for path in sorted((ROOT / "infra/configs").glob("*.yaml"))}
CLOUDS = {"kubernetes", "kubeflow", "vertex", "sagemaker", "azureml", "skypilot"}
ON_GPU = {"cache_features", "cache_prefix", "search_lr_ratio", "fine_tune", "distill", "evaluate"}
SETTINGS: dict[str, type[BaseModel]] = {
    "docker": DockerSettings,
    "resources": ResourceSettings,
    "orchestrator.slurm": SlurmSettings,
    "step_operator.slurm": SlurmSettings,
    "orchestrator.kubernetes": KubernetesOrchestratorSettings,
    "orchestrator.kubeflow": KubeflowOrchestratorSettings,
    "orchestrator.vertex": VertexOrchestratorSettings,
    "orchestrator.sagemaker": SagemakerOrchestratorSettings,
    "orchestrator.azureml": AzureMLOrchestratorSettings,
    "orchestrator.vm_aws": SkypilotAWSOrchestratorSettings,
}
STORES = {"vertex": "gs://bucket/folder", "azureml": "az://container/folder"}
VARIABLES = {
    "KUBERNETES_CONTEXT": "lab",
    "CONTAINER_REGISTRY": "registry.example.org/headstart",
    "GCP_PROJECT": "project",
    "GCP_LOCATION": "europe-west3",
    "VERTEX_SERVICE_ACCOUNT": "runner@project.iam.gserviceaccount.com",
    "SAGEMAKER_ROLE": "arn:aws:iam::123456789012:role/runner",
    "AWS_REGION": "eu-central-1",
    "AZURE_SUBSCRIPTION": "subscription",
    "AZURE_RESOURCE_GROUP": "group",
    "AZUREML_WORKSPACE": "workspace",
    "MLFLOW_TRACKING_URI": "https://mlflow.example.org",
}
REGISTRIES = {
    "vertex": "europe-west3-docker.pkg.dev/project/headstart",
    "sagemaker": "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
    "skypilot": "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
    "azureml": "name.azurecr.io",
}

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: lab
contexts: [{name: lab, context: {cluster: lab, user: lab}}]
clusters: [{name: lab, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: lab, user: {}}]
"""


def variables(name: str) -> dict[str, str]:
    store = STORES.get(name, "s3://bucket/folder")
    registry = REGISTRIES.get(name, VARIABLES["CONTAINER_REGISTRY"])
    return {**VARIABLES, "ARTIFACT_STORE": store, "CONTAINER_REGISTRY": registry}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ZenML makes of every stack and config, in a store of its own."""
    every = {path.stem: variables(path.stem) for path in STACKS.glob("*.yaml")}
    home = tmp_path_factory.mktemp("zenml")
    # A context that leads nowhere: rendering asks no cluster.
    (home / "kubeconfig").write_text(KUBECONFIG)
    places = dict.fromkeys(("ZENML_CONFIG_PATH", "ZENML_REPOSITORY_PATH"), str(home))
    done = subprocess.run(
        [sys.executable, "-m", "tests.infra.render", json.dumps(every)],
        cwd=ROOT,
        env={**os.environ, **VARIABLES, **places, "KUBECONFIG": str(home / "kubeconfig")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.mark.parametrize("name", sorted(path.stem for path in STACKS.glob("*.yaml")))
def test_a_stack_that_is_applied_twice_is_the_same_and_active(name: str, rendered: dict[str, Any]) -> None:
    (first, parts, active), (second, again, _) = rendered["applied"][name]
    assert active == f"headstart-{name}"
    assert first
    assert all(line.endswith(", registered") for line in first)
    assert [line.replace("registered", "unchanged") for line in first] == second
    assert parts == again
    wanted = read_stack(STACKS / f"{name}.yaml", variables(name)).components
    for kind, component in wanted.items():
        _, flavor, configuration, _ = parts[kind.value]
        assert flavor == component.flavor
        assert {**configuration, **component.configuration} == configuration


def test_every_stack_but_the_plain_one_has_a_config_and_no_config_is_without_a_stack() -> None:
    assert set(CONFIGS) == {path.stem for path in STACKS.glob("*.yaml")} - {"local"}
    assert set(CONFIGS) > CLOUDS


def test_variables_that_are_not_set_are_all_named() -> None:
    with pytest.raises(ClusterError) as caught:
        read_stack(STACKS / "sagemaker.yaml", {"AWS_REGION": "eu-central-1"})
    said = str(caught.value)
    assert "sagemaker.yaml needs variables that are not set" in said
    assert [line.split()[1] for line in said.splitlines()[1:]] == [
        "ARTIFACT_STORE=...", "CONTAINER_REGISTRY=...", "SAGEMAKER_ROLE=...",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("component: {}", "components\n  Field required"),
        ("components: {orchestrater: {flavor: local}}", "orchestrater"),
        ("components: {orchestrator: {flavour: local}}", "flavour\n  Extra inputs are not permitted"),
    ],
)
def test_a_misspelt_stack_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ClusterError, match="is not a stack") as caught:
        read_stack(tmp_path / "x.yaml", {})
    assert expected in str(caught.value)


def test_a_stack_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(ClusterError, match=r"nowhere\.yaml does not exist; there are azureml, kubeflow"):
        read_stack(STACKS / "nowhere.yaml", {})


def test_no_file_holds_a_secret() -> None:
    for path in [*STACKS.glob("*.yaml"), *(ROOT / "infra/configs").glob("*.yaml")]:
        for word in ("password", "secret_access_key", "api_key", "account_key", "token:"):
            assert word not in path.read_text(), path


def unknown_keys(config: dict[str, Any]) -> list[str]:
    """Name every key that ZenML would ignore in silence, or refuse only on the cluster."""
    found = [f"{key}" for key in config if key not in PipelineRunConfiguration.model_fields]
    places = {"settings": config.get("settings", {})}
    for name, step in config.get("steps", {}).items():
        found += [f"steps.{name}"] * (name not in PHASES)
        found += [f"steps.{name}.{key}" for key in step if key not in StepConfigurationUpdate.model_fields]
        places[f"steps.{name}.settings"] = step.get("settings", {})
    for place, settings in places.items():
        for key, values in settings.items():
            kind = SETTINGS.get(key)
            fields = set(kind.model_fields) if kind else set()
            found += [f"{place}.{key}"] * (kind is None)
            found += [f"{place}.{key}.{name}" for name in values if kind and name not in fields]
            nested = values.get("pod_settings", {})
            found += [
                f"{place}.{key}.pod_settings.{n}"
                for n in nested
                if n not in KubernetesPodSettings.model_fields
            ]
            options = values.get("parent_image_build_config", {}).get("build_options", {})
            found += [
                f"{place}.{key}.build_options.{n}"
                for n in options
                if n not in DockerBuildOptions.model_fields
            ]
            if kind:
                kind.model_validate(values)  # types and values, by ZenML's own classes
    return found


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_config_has_no_key_and_no_step_that_zenml_would_ignore(name: str) -> None:
    assert unknown_keys(CONFIGS[name]) == []
    keys = {
        key
        for place in [CONFIGS[name], *CONFIGS[name]["steps"].values()]
        for key in place.get("settings", {})
    }
    own = {f"{kind.value}.{part.flavor}" for kind, part in components_of(name).items()}
    assert keys <= {"docker", "resources"} | own, "settings of a component that the stack has not"


def components_of(name: str) -> dict[Any, Any]:
    return dict(read_stack(STACKS / f"{name}.yaml", variables(name)).components)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"steps"', '"stepps"', "stepps"),
        ('"fine_tune"', '"fine_tuen"', "steps.fine_tuen"),
        ('"retry"', '"retri"', "steps.cache_features.retri"),
        (
            '"tolerations"',
            '"tolerance"',
            "steps.fine_tune.settings.orchestrator.kubernetes.pod_settings.tolerance",
        ),
        ('"build_args"', '"buildargs"', "steps.distill.settings.docker.build_options.buildargs"),
        ('"orchestrator.kubernetes"', '"orchestrator.k8s"', "settings.orchestrator.k8s"),
    ],
)
def test_the_check_of_the_configs_finds_what_it_looks_for(old: str, new: str, expected: str) -> None:
    text = json.dumps(CONFIGS["kubernetes"])
    assert old in text
    assert expected in unknown_keys(json.loads(text.replace(old, new)))


def gpus(name: str, step: dict[str, Any]) -> Any:
    """Return what a step asks of its cluster in the way of GPUs."""
    settings = step.get("settings", {})
    own = next((v for k, v in settings.items() if k.split(".")[0] in ("orchestrator", "step_operator")), {})
    return {
        "kubernetes": own.get("pod_settings", {})
        .get("resources", {})
        .get("limits", {})
        .get("nvidia.com/gpu"),
        "sagemaker": own.get("instance_type") if str(own.get("instance_type")).startswith("ml.g") else None,
        "azureml": own.get("size") if "NC" in str(own.get("size")) else None,
        "skypilot": own.get("accelerators"),
    }.get(name, settings.get("resources", {}).get("gpu_count"))


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_the_phases_that_train_or_extract_have_a_gpu_and_its_image_and_no_other_has(name: str) -> None:
    steps = CONFIGS[name]["steps"]
    assert {phase for phase, step in steps.items() if gpus(name, step)} == ON_GPU
    if name in CLOUDS:
        for phase, step in steps.items():
            docker = step["settings"].get("docker", {})
            args = docker.get("parent_image_build_config", {}).get("build_options", {}).get("build_args", {})
            assert (args.get("DEVICE") == "cuda") == (phase in ON_GPU)
            assert ("retry" in step) == (phase in ON_GPU)
    if name == "vertex":
        assert all("node_selector_constraint" in steps[p]["settings"]["orchestrator.vertex"] for p in ON_GPU)
    if name == "local-slurm":
        assert {phase for phase, step in steps.items() if step["step_operator"]} == ON_GPU


def test_what_slurm_is_asked_for_is_what_the_config_says(rendered: dict[str, Any]) -> None:
    steps = rendered["compiled"]["slurm"]
    assert steps["promote"]["sbatch"] == ["--cpus-per-task=2", "--mem=3815M"]
    assert steps["fine_tune"]["sbatch"] == [
        "--time=12:00:00", "--cpus-per-task=8", "--mem=30518M", "--gres=gpu:1",
    ]  # fmt: skip


def test_only_the_phases_of_the_config_go_to_the_step_operator(rendered: dict[str, Any]) -> None:
    steps = rendered["compiled"]["local-slurm"]
    assert {phase for phase, step in steps.items() if step["step_operator"]} == ON_GPU


def test_the_jobs_of_kubernetes_are_valid_and_carry_the_gpus(rendered: dict[str, Any]) -> None:
    steps = rendered["compiled"]["kubernetes"]
    assert set(steps) == set(PHASES)
    for phase, step in steps.items():
        valid(step["job"])
        (container,) = step["job"]["spec"]["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        assert ("nvidia.com/gpu" in limits) == (phase in ON_GPU)
        assert container["resources"]["requests"]["memory"] == limits["memory"]
        assert bool(step["retry"]) == (phase in ON_GPU)


def test_the_stacks_that_the_readme_calls_schedulable_are(rendered: dict[str, Any]) -> None:
    text = (ROOT / "infra/README.md").read_text().split("`--cron` (UTC). ")[1].split(" have one")[0]
    assert sorted(re.findall(r"`(\w+)`", text)) == rendered["schedulable"]


@pytest.mark.parametrize(
    ("section", "given", "expected"),
    [
        ("", "5 4 * * *", "5 4 * * *"),
        ("retraining: {cron: '0 3 * * *'}", None, "0 3 * * *"),
        ("retraining: {cron: '0 3 * * *', timezone: UTC}", None, "0 3 * * *"),
        ("retraining: {cron: '0 3 * * *', timezone: Asia/Tokyo}", "0 18 * * *", "0 18 * * *"),
    ],
)
def test_the_time_of_a_schedule_stands_in_one_place(
    section: str, given: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text(f"seed: 0\n{section}\n")
    monkeypatch.setenv("HEADSTART_PARAMS", str(tmp_path / "params.yaml"))
    assert cron(given) == expected


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("", "has no retraining.cron: set it, or say --cron"),
        ("retraining: {cron: '0 3 * * *', timezone: Asia/Tokyo}", "retraining.timezone is Asia/Tokyo"),
    ],
)
def test_a_schedule_without_a_time_or_in_another_zone_is_refused(
    section: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.yaml").write_text(f"seed: 0\n{section}\n")
    monkeypatch.setenv("HEADSTART_PARAMS", str(tmp_path / "params.yaml"))
    with pytest.raises(ParamsError, match=re.escape(said)):
        cron(None)


def test_the_schedule_of_kubernetes_is_a_valid_cron_job(rendered: dict[str, Any]) -> None:
    cron = rendered["compiled"]["kubernetes"]["ingest_data"]["cron"]
    valid(cron)
    assert cron["kind"] == "CronJob"
    assert cron["spec"]["schedule"] == "0 3 * * *"


def test_the_validation_of_manifests_refuses_what_kubernetes_would(rendered: dict[str, Any]) -> None:
    broken = json.loads(json.dumps(rendered["compiled"]["kubernetes"]["promote"]["job"]))
    broken["spec"]["template"]["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        valid(broken)


def valid(manifest: dict[str, Any]) -> None:
    # ZenML leaves out of a job what the address that it is sent to says
    manifest = {"apiVersion": "batch/v1", "kind": "Job", **manifest}
    for version in ("1.29", "1.33"):
        kubernetes_validate.validate(manifest, version, strict=True)
