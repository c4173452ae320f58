"""Which model a run registers, and what moves the champion."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from steps.core.system.errors import RegistryError
from steps.promote import Promote
from steps.runtime import mlflow_client, tracking
from steps.runtime.phase import all_configs
from steps.runtime.registry import Registry
from tests.clone import ROOT
from tests.stores import use_store


def config(path: str, name: str | None = None) -> Promote:
    shipped = all_configs(ROOT / "params.yaml")["promote"].model_dump()
    return Promote.model_validate({**shipped, "data": path, "name": name})


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("data/demo", "demo"),
        ("/home/ann/corn leaves/", "corn leaves"),
        ("s3://bucket/leaves.csv", "leaves.csv"),
        ("hub:someone/plants", "plants"),
        ("hub:plants", "hub-plants"),
        ("blätter", "blätter"),
        ("bla\u0308tter", "blätter"),  # the same letters, spelt in another way
        ("/data/データ", "データ"),
        ("/data/画像/", "画像"),
        ("/data/🍎", "🍎"),
        ("it's (1)", "it-s -1-"),
        ("/", "data"),
    ],
)
def test_without_a_name_every_data_set_has_a_model_of_its_own(path: str, model: str) -> None:
    assert config(path).model() == model
    assert config(path, "mine").model() == "mine"


def test_a_folder_is_named_whatever_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaves").mkdir()
    monkeypatch.chdir(tmp_path / "leaves")
    assert config(".").model() == config("../leaves").model() == config(str(tmp_path / "leaves")).model()


@pytest.mark.parametrize("name", ["", "..", "a/b", "a:b", "it's"])
def test_a_name_that_the_registry_would_refuse_is_refused_before_the_training(name: str) -> None:
    with pytest.raises(ValueError, match="a name without / : and '"):
        config("data/demo", name)


@pytest.mark.parametrize("name", ["データ", "🍎", "blätter", "corn leaves", "it-s -1-"])
def test_the_registry_takes_and_finds_names_of_every_script(tmp_path: Path, name: str) -> None:
    registry = Registry(name, MlflowClient(f"sqlite:///{tmp_path}/mlflow.db"))
    registry.client.create_registered_model(name)
    registry.client.create_registered_model(f"{name}2")
    assert len(registry.client.search_registered_models(f"name = '{name}'")) == 1
    assert registry.versions() == []


def test_a_registry_without_versions_has_neither_champion_nor_decision(tmp_path: Path) -> None:
    registry = Registry("nobody", MlflowClient(f"sqlite:///{tmp_path}/mlflow.db"))
    assert registry.aliases() == {}
    assert registry.champion(tmp_path) is None
    assert registry.find_decision("a") is None
    assert registry.opponent("a") is None
    assert registry.rolled_back("a") is None


def test_nothing_is_logged_outside_of_a_run(tmp_path: Path) -> None:
    tracking.log({"loss": 1.0})
    assert tracking.log_files(tmp_path) is None
    assert issubclass(RegistryError, Exception)


def test_a_phase_that_fails_leaves_a_failed_run_under_a_failed_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_store(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)

    def fail() -> None:
        with tracking.phase_run("some-run", "fine_tune", {"seed": 3}, {}):
            tracking.log({"loss": 0.5}, step=2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    client = mlflow_client.connect()
    runs = client.search_runs([mlflow_client.experiment(client)])
    nested = next(run for run in runs if run.info.run_name == "fine_tune")
    parent = next(run for run in runs if run.info.run_name == "some-run")
    assert nested.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert {nested.info.status, parent.info.status} == {"FAILED"}
    assert nested.data.metrics == {"loss": 0.5}
    assert nested.data.params["seed"] == parent.data.tags["seed"] == "3"
    assert parent.data.tags["phase.fine_tune"] == "failed"
    assert parent.data.tags["phase.evaluate"] == "reused"
