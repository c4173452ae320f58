"""The phases' signatures, dvc.yaml and ZenML's steps tell of one and the same DAG."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from infra import dvc_stages
from pipelines.finetune import finetune_pipeline
from pipelines.retraining import retraining_pipeline
from steps import PHASES, RETRAINING, UNCACHED, WATCHING
from steps.phase import ROOT, all_phases, load_phase

Edges = set[tuple[str, str]]


def edges_of_the_signatures() -> Edges:
    maker = {phase.output: phase.name for phase in all_phases()}
    return {(maker[name], phase.name) for phase in all_phases() for name in phase.inputs}


def test_there_are_ten_phases_each_in_a_file_of_its_name_with_an_output_of_its_own() -> None:
    assert len(PHASES) == len({phase.output for phase in all_phases()}) == 10
    assert all((ROOT / "steps" / f"{name}.py").is_file() for name in PHASES)


def test_the_phases_stand_in_an_order_in_which_they_can_run() -> None:
    assert all(PHASES.index(before) < PHASES.index(after) for before, after in edges_of_the_signatures())


def test_every_phase_takes_an_artifact_as_what_was_made() -> None:
    phases = [load_phase(name) for name in RETRAINING]
    made = {phase.output: phase.function.__annotations__["return"].__origin__ for phase in phases}
    wrong = {
        phase.name: name for phase in phases for name, kind in phase.inputs.items() if made[name] is not kind
    }
    assert wrong == {}


def test_the_edges_of_dvc_yaml_are_those_of_the_signatures() -> None:
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    maker = {out: name for name, stage in stages.items() for out in stage["outs"]}
    found = {(maker[dep], name) for name, stage in stages.items() for dep in stage["deps"] if dep in maker}
    assert found == edges_of_the_signatures()


def test_dvc_itself_reads_the_same_edges() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "dvc", "dag", "--dot"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = [line.strip().rstrip(";").replace('"', "") for line in done.stdout.splitlines() if "->" in line]
    found = {tuple(line.split(" -> ")) for line in lines}
    assert found == edges_of_the_signatures()


def test_the_edges_of_the_zenml_pipeline_are_those_of_the_signatures() -> None:
    pipeline = finetune_pipeline.copy()
    pipeline.prepare()
    found = {(up, name) for name, call in pipeline.invocations.items() for up in call.upstream_steps}
    assert set(pipeline.invocations) == set(PHASES)
    assert found == edges_of_the_signatures()


def test_a_retraining_looks_first_and_trains_by_the_same_phases() -> None:
    look, whole = retraining_pipeline.copy(), retraining_pipeline.copy()
    look.prepare()
    whole.prepare(train=True)
    assert tuple(look.invocations) == WATCHING
    assert tuple(whole.invocations) == RETRAINING
    assert set(PHASES) < set(RETRAINING)
    found = {(up, name) for name, call in whole.invocations.items() for up in call.upstream_steps}
    assert {("fine_tune", "warm_start"), ("warm_start", "distill"), ("warm_start", "promote")} <= found
    assert ("fine_tune", "distill") not in found, "the better of two starts goes on"
    assert {("watch_data", "warm_start"), ("watch_data", "judge_newest")} <= found
    for name in WATCHING[:2]:
        same = (pipeline.invocations[name].step for pipeline in (look, whole))
        assert len({step.configuration.cache_policy.model_dump_json() for step in same}) == 1


def test_what_asks_the_registry_is_never_reused() -> None:
    whole = retraining_pipeline.copy()
    whole.prepare(train=True)
    asked = {name for name, call in whole.invocations.items() if call.step.enable_cache is False}
    assert asked == set(UNCACHED) == {"watch_data"}


def test_dvc_yaml_is_what_the_signatures_say() -> None:
    assert (ROOT / "dvc.yaml").read_text() == dvc_stages.text(), "run python -m infra.dvc_stages"


def test_both_engines_watch_the_same_code() -> None:
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    pipeline = finetune_pipeline.copy()
    pipeline.prepare()
    for name, call in pipeline.invocations.items():
        watched = call.step.configuration.cache_policy.file_dependencies
        assert watched == load_phase(name).code
        assert set(watched) <= set(stages[name]["deps"])


def test_a_phase_watches_the_helpers_that_it_imports_and_the_files_that_they_name() -> None:
    assert {"steps/core/loop.py", "steps/core/groups.py", "steps/artifacts.py"} <= set(
        load_phase("fine_tune").code
    )
    assert {"steps/core/metrics.py", "steps/core/templates/evaluation.html"} <= set(
        load_phase("evaluate").code
    )
    assert "infra/served_model.py" in load_phase("promote").code
    assert "steps/core/quality.py" not in load_phase("fine_tune").code


@pytest.mark.parametrize("package", ["steps", "steps/core"])
def test_importing_a_room_loads_neither_engine_nor_tracker(package: str) -> None:
    modules = [
        f"{package.replace('/', '.')}.{path.stem}" for path in sorted((ROOT / package).glob("[a-z]*.py"))
    ]
    heavy = ["zenml", "dvc", "mlflow", *(["torch", "pandas"] if package == "steps" else [])]
    code = (
        f"import {', '.join(modules)}, sys, json; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_arrows_between_the_rooms_go_one_way() -> None:
    forbidden = {
        "steps": {"zenml", "dvc", "pipelines", "infra", "tests"},
        "steps/core": {
            "mlflow",
            "steps.run",
            "steps.tracking",
            "steps.tracker",
            "steps.artifacts",
            "steps.models",
            "steps.phase",
            "steps.config",
        },
    }
    for room, names in forbidden.items():
        pattern = "**/*.py" if room == "steps" else "*.py"
        for path in (ROOT / room).glob(pattern):
            for name in imports_of(path):
                assert not any(name == bad or name.startswith(f"{bad}.") for bad in names), (path, name)


def test_only_the_tracker_s_rooms_import_mlflow() -> None:
    importers = {
        path.name
        for path in (ROOT / "steps").rglob("*.py")
        for name in imports_of(path)
        if name.split(".")[0] == "mlflow"
    }
    assert importers <= {"tracker.py", "tracking.py", "registry.py"}
    in_registry = (ROOT / "steps/registry.py").read_text().split("if TYPE_CHECKING:")[1].split("\n\n")[0]
    assert "mlflow" in in_registry, "the registry imports mlflow for its types only"


def test_nothing_imports_pickle() -> None:
    bad = {"pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"}
    for room in ("steps", "pipelines", "infra"):
        for path in (ROOT / room).rglob("*.py"):
            assert not {name.split(".")[0] for name in imports_of(path)} & bad, path


RUNS_WHAT_IT_READS = {
    "torch.load", "np.load", "numpy.load", "pd.read_pickle", "pandas.read_pickle", "yaml.load", "eval",
    "exec", "compile", "os.system", "os.popen", "__import__",
}  # fmt: skip
SWITCHES = {"allow_pickle", "trust_remote_code", "shell"}


def test_nothing_is_called_that_runs_what_it_reads() -> None:
    found = set()
    for room in ("steps", "pipelines", "infra"):
        for path in (ROOT / room).rglob("*.py"):
            for call in (
                node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
            ):
                words = {word.arg: ast.unparse(word.value) for word in call.keywords}
                name = ast.unparse(call.func)
                if name in RUNS_WHAT_IT_READS:
                    found.add((path.name, name, words.get("weights_only")))
                found |= {(path.name, word, value) for word, value in words.items() if word in SWITCHES}
    # the packaged backbone: its SHA-256 is compared first, and torch's restricted loader reads it
    assert found == {("weights.py", "torch.load", "True")}


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found
