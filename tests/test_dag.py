"""The phases' signatures, dvc.yaml and ZenML's steps tell of one and the same DAG."""

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from infra import dvc_stages
from pipelines.finetune import finetune_pipeline
from pipelines.retraining import retraining_pipeline
from steps import PHASES, RETRAINING, UNCACHED, WATCHING
from steps.core.system.code import ROOT, walk_code
from steps.runtime.phase import all_phases, load_phase
from tests.clone import copy_project

Edges = set[tuple[str, str]]


def edges_of_the_signatures() -> Edges:
    maker = {phase.output: phase.name for phase in all_phases()}
    return {(maker[name], phase.name) for phase in all_phases() for name in phase.inputs}


def test_there_are_thirteen_phases_each_in_a_file_of_its_name_with_an_output_of_its_own() -> None:
    assert len(PHASES) == len({phase.output for phase in all_phases()}) == 13
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
    preprocessing, whole = retraining_pipeline.copy(), retraining_pipeline.copy()
    preprocessing.prepare()
    whole.prepare(train=True)
    assert tuple(preprocessing.invocations) == WATCHING
    assert tuple(whole.invocations) == RETRAINING
    assert set(PHASES) < set(RETRAINING)
    found = {(up, name) for name, call in whole.invocations.items() for up in call.upstream_steps}
    assert {("fine_tune", "warm_start"), ("warm_start", "distill"), ("warm_start", "promote")} <= found
    assert ("fine_tune", "distill") not in found, "the better of two starts goes on"
    assert {("watch_data", "warm_start"), ("watch_data", "judge_newest")} <= found
    for name in WATCHING[:2]:
        same = (pipeline.invocations[name].step for pipeline in (preprocessing, whole))
        assert len({step.configuration.cache_policy.model_dump_json() for step in same}) == 1


def test_what_asks_the_registry_is_never_reused() -> None:
    whole = retraining_pipeline.copy()
    whole.prepare(train=True)
    asked = {name for name, call in whole.invocations.items() if call.step.enable_cache is False}
    assert asked == set(UNCACHED) & set(RETRAINING) == {"watch_data"}


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
    assert {
        "steps/core/training/loop.py",
        "steps/core/training/parameter_groups.py",
        "steps/artifacts/models.py",
    } <= set(load_phase("fine_tune").code)
    assert {"steps/core/tasks/metrics.py", "steps/core/report/templates/evaluation.html"} <= set(
        load_phase("evaluate").code
    )
    assert "infra/served_model.py" in load_phase("promote").code
    assert "steps/core/audit/suites.py" not in load_phase("fine_tune").code


def test_the_name_of_a_search_follows_every_file_that_its_phase_depends_on(tmp_path: Path) -> None:
    files = load_phase("search_lr_ratio").code
    assert {f"steps/core/strategy/{name}.py" for name in ("pruning", "finalists", "soup")} <= set(files)
    assert "steps/core/tasks/targets.py" in files
    asked = "from steps.core.system.code import code_digest; print(code_digest('steps.search_lr_ratio'))"
    clone = copy_project(tmp_path / "project")
    before = clone.run("python", "-c", asked).stdout
    helper = clone.folder / "steps/core/strategy/pruning.py"
    helper.write_text(helper.read_text() + "# changed\n")
    after = clone.run("python", "-c", asked).stdout
    assert len(before.strip()) == len(after.strip()) == 64
    assert before != after


ROOMS = (
    "steps/core/system", "steps/core/tasks", "steps/core/data", "steps/core/backbones",
    "steps/core/modalities", "steps/core/features", "steps/core/audit", "steps/core/training",
    "steps/core/strategy", "steps/core/evaluation", "steps/core/export", "steps/core/distillation",
    "steps/core/report", "steps/core/promotion", "steps/artifacts", "steps/runtime", "steps", "pipelines",
    "infra",
)  # fmt: skip
"""Every room of the product, the lowest first: a file imports from its own room and from lower ones only."""


def files_of(room: str) -> list[Path]:
    inside = (ROOT / room).rglob("*.py") if room.startswith("steps/") else (ROOT / room).glob("*.py")
    return sorted(inside)


def room_of(module: str) -> str:
    folder = module.replace(".", "/")
    return next(
        (room for room in sorted(ROOMS, key=len, reverse=True) if f"{folder}/".startswith(f"{room}/")), ""
    )


CHEAP = ("steps", "steps/artifacts", "steps/runtime")  # looking at the DAG imports these
LOADED = """
import importlib, json, sys
heavy, rooms = json.loads(sys.argv[1])
found = {}
for room, modules in rooms.items():
    for module in modules:
        importlib.import_module(module)
    found[room] = [name for name in heavy if name in sys.modules]
print(json.dumps(found))
"""


@pytest.mark.parametrize("cheap", [True, False])
def test_importing_a_room_loads_neither_engine_nor_tracker(cheap: bool) -> None:
    """One process imports room after room, as the libraries' own import is what takes the time."""
    rooms = {
        room: [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files_of(room)
               if path.stem != "__init__"]
        for room in ROOMS if room.startswith("steps") and (room in CHEAP) == cheap
    }  # fmt: skip
    heavy = ["zenml", "dvc", "mlflow", *(["torch", "pandas"] if cheap else [])]
    words = [sys.executable, "-c", LOADED, json.dumps([heavy, rooms])]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {room: [] for room in rooms}


def test_every_folder_of_code_is_a_room_that_says_what_enters_and_what_leaves() -> None:
    folders = {path.parent.relative_to(ROOT).as_posix() for room in ("steps", "pipelines", "infra")
               for path in (ROOT / room).rglob("*.py")}  # fmt: skip
    assert {room_of(folder) for folder in folders if folder != "steps/core"} == set(ROOMS)
    for room in ROOMS:
        assert ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text())), room


def test_a_file_imports_from_its_own_room_and_from_lower_ones_only() -> None:
    upward = {
        (path.relative_to(ROOT).as_posix(), name)
        for number, room in enumerate(ROOMS)
        for path in files_of(room)
        for name in imports_of(path)
        if name.split(".")[0] in ("steps", "pipelines", "infra", "tests")
        if name != "steps" and not name.rpartition(".")[2].isupper()  # the names of the phases, a list
        if room_of(name) not in ROOMS[: number + 1]
    }
    assert upward == set()


def test_no_two_files_import_each_other_by_any_way_round() -> None:
    files = {path for room in ROOMS for path in files_of(room) if path.stem != "__init__"}
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}
    graph = {name: imports_of(path) & set(names) for name, path in names.items()}
    tuple(TopologicalSorter(graph).static_order())  # CycleError names the circle


def test_only_pipelines_import_an_engine() -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for room in ("steps", "pipelines")
        for path in (ROOT / room).rglob("*.py")
        if imports_of(path, top=True) & {"zenml", "dvc"}
    }
    assert {path for path in importers if not path.startswith("pipelines/")} == set()


def test_only_the_tracker_s_rooms_import_mlflow() -> None:
    importers = {
        path.name
        for path in (ROOT / "steps").rglob("*.py")
        for name in imports_of(path)
        if name.split(".")[0] == "mlflow"
    }
    assert importers <= {"mlflow_client.py", "tracking.py", "registry.py"}
    in_registry = (
        (ROOT / "steps/runtime/registry.py").read_text().split("if TYPE_CHECKING:")[1].split("\n\n")[0]
    )
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


def imports_of(path: Path, top: bool = False) -> set[str]:
    """Return the modules that a file imports anywhere in it, but for the type checker alone."""
    found: set[str] = set()
    for node in walk_code(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.split(".")[0] for name in found} if top else found
