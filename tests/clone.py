"""A copy of the project with a tiny data set, in which the real engines run as a user runs them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import save_file

from tests.core.text_toys import write_encoder, write_sentences

ROOT = Path(__file__).resolve().parent.parent
COPIED = (
    "steps",
    "pipelines",
    "infra",
    "finetune_pipeline.py",
    "retraining_pipeline.py",
    "batch_pipeline.py",
    "params.yaml",
    "dvc.yaml",
    "README.md",
    "corrections.csv",
    "expectations.json",
)
BACKBONE = "test_efficientnet"
CLASSES = ("blue", "green", "red")
IN_ONE_PROCESS = """
import sys
from steps.runtime.phase import load_phase
from steps.runtime.run import main
for name in sys.argv[1:]:
    main(load_phase(name).function)
"""


@dataclass(frozen=True)
class Clone:
    """The copy's folder, and what it takes to run commands in it."""

    folder: Path

    def environment(self) -> dict[str, str]:
        """Return the variables that a command in the copy is given."""
        places = [str(Path(sys.executable).parent), os.environ["PATH"]]
        own = {
            "PATH": os.pathsep.join(places),
            "PYTHONPATH": str(self.folder),
            "ZENML_CONFIG_PATH": str(self.folder / ".zenml"),
            "HEADSTART_SCRATCH": str(self.folder / ".headstart"),
            "COLUMNS": "200",
        }
        elsewhere = {"MLFLOW_TRACKING_URI", "ZENML_REPOSITORY_PATH", "ZENML_CUSTOM_SOURCE_ROOT"}
        inherited = {name: value for name, value in os.environ.items() if name not in elsewhere}
        return {**inherited, **own}

    def run(self, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the environment the tests run in; never raises."""
        return subprocess.run(
            words,
            cwd=self.folder,
            env={**self.environment(), **env},
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, *words: str, **env: str) -> "subprocess.Popen[str]":
        """Start a command in a group of processes of its own; its output goes to output.txt."""
        with (self.folder / "output.txt").open("w") as output:
            return subprocess.Popen(
                words,
                cwd=self.folder,
                env={**self.environment(), **env},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=hear_ctrl_c,
            )

    def zenml(self) -> dict[str, object]:
        """Run the pipeline as it is typed; return report.json."""
        done = self.run("zenml", "pipeline", "run", "finetune_pipeline")
        said = done.stdout + done.stderr
        assert done.returncode == 0, said[-3000:]
        assert len(said.splitlines()) <= 40, said
        last = done.stdout.strip().splitlines()[-1]
        assert last.startswith("report: "), last
        page = self.folder / last.removeprefix("report: ")
        assert page.is_file()
        report: dict[str, object] = json.loads(page.with_suffix(".json").read_text())
        return report

    def repro(self) -> list[str]:
        """Run `dvc repro`; return the stages that ran."""
        done = self.run("dvc", "repro")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        lines = [line for line in done.stdout.splitlines() if line.startswith("Running stage")]
        return [line.split("'")[1] for line in lines]

    def phases(self, *names: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run phases as `python -m steps.NAME` does, in one process: the libraries are imported once."""
        return self.run("python", "-c", IN_ONE_PROCESS, *names, **env)

    def set_params(self, **sections: dict[str, object]) -> None:
        """Change keys of params.yaml, section by section."""
        yaml = YAML()
        path = self.folder / "params.yaml"
        params = yaml.load(path)
        for name, keys in sections.items():
            if isinstance(keys, dict):
                update(params[name], keys)
            else:
                params[name] = keys
        yaml.dump(params, path)


def update(section: dict[str, object], keys: Mapping[str, object]) -> None:
    """Change keys of a section, and of the sections in it."""
    for key, value in keys.items():
        inner = section.get(key)
        if isinstance(inner, dict) and isinstance(value, dict):
            update(inner, value)
        else:
            section[key] = value


def hear_ctrl_c() -> None:
    """Undo what a shell does to its background jobs, which are deaf to Ctrl-C, and so is what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def copy_project(folder: Path) -> Clone:
    """Copy what the engines need."""
    folder.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return Clone(folder)


def make_clone(folder: Path) -> Clone:
    """Copy the project, make 90 small images of three kinds, and turn every number down."""
    clone = copy_project(folder)
    write_images(folder / "images")
    write_weights(folder / "weights.safetensors")
    short = {"epochs": 2, "min_steps": 0, "patience": 2, "batch_size": 16}
    clone.set_params(
        backbone={"name": BACKBONE, "weights": "weights.safetensors"},
        modality={"image": {"size": 32}},
        ingest_data={"path": "images"},
        validate_data={"permutations": 19},
        measure_stats={"bootstrap": 100},
        cache_features={"shard_samples": 20},
        choose_strategy={"readout": "top", "bootstrap": 100},
        cache_prefix={"views": 2},
        warm_up_head={"folds": 3},
        search_lr_ratio={
            "when": "always",
            "head_lr_low": 3e-4,
            "head_lr_high": 2e-3,  # with more, random weights under a solved head diverge
            "trials": 2,
            "uniform_trials": 1,
            "startup_trials": 1,
            "epochs": 1,
            "prune_after": 1,
            "keep_fraction": 0.5,
            "finalists": 1,
            "repeats": 1,
        },
        fine_tune={**short, "unfreeze": 2},
        distill={**short, "candidates": [{"keep_stages": 4}, {"keep_stages": 5}], "latency_runs": 5},
        evaluate={"bootstrap": 100, "mistakes": 3, "robustness_samples": 6},
        promote={
            "min_unknown": 9,
            "min_accuracy": 0.0,
            "min_macro_f1": 0.0,
            "max_ece": 1.0,
            "bootstrap": 100,
            "parity": {
                "fp32": {"logits": 1e-3, "probabilities": 1e-4, "top1": 1.0},
                "int8": {"logits": 100.0, "probabilities": 1.0, "top1": 0.0},
            },
            "calibration_images": 8,
            "latency_runs": 5,
        },
        watch_data={"min_new_samples": 9, "min_drift_samples": 8, "samples": 40, "permutations": 99},
    )
    return clone


def write_images(folder: Path, count: int = 30) -> None:
    """Write noisy pictures whose colour is their class."""
    generator = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 160, (40, 48, 3))
            pixels[..., 2 - number] += 90
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i:03d}.png")


def make_vector_clone(folder: Path) -> Clone:
    """Make a clone whose data are rows of numbers, of a modality that only the tests have."""
    clone = make_clone(folder)
    (folder / "tests").mkdir()
    (folder / "tests/__init__.py").touch()
    shutil.copytree(ROOT / "tests/vectors", folder / "tests/vectors")
    write_vectors(folder / "vectors.csv")
    torch.manual_seed(0)
    sizes = ((8, 4), (8, 8), (8, 8))
    state = {f"{n}.model.0.weight": torch.randn(*size) / 2 for n, size in enumerate(sizes)}
    save_file(
        {**state, **{f"{n}.model.0.bias": torch.zeros(8) for n in range(3)}}, folder / "vectors.safetensors"
    )
    clone.set_params(
        backbone={"name": "two-layers", "weights": "vectors.safetensors"},
        modality={"tests.vectors": {"noise": 0.1}},
        ingest_data={"path": "vectors.csv"},
        distill={"candidates": [{"keep_stages": 2}]},
        promote={"int8": False},
    )
    return clone


def write_vectors(path: Path, count: int = 120) -> None:
    """Write a table of numbers, around a centre of each class."""
    generator = np.random.default_rng(0)
    lines = ["x0,x1,x2,x3,label"]
    for row in range(count):
        centre = np.eye(4)[row % 3] * 2
        lines.append(",".join([*(f"{x:.4f}" for x in generator.normal(centre, 0.8)), CLASSES[row % 3]]))
    path.write_text("\n".join(lines) + "\n")


def make_set_clone(folder: Path) -> Clone:
    """Make a clone whose data are label sets: pictures with any of three coloured squares."""
    clone = make_clone(folder)
    write_label_sets(folder / "squares")
    clone.set_params(
        ingest_data={"path": "squares/manifest.csv"},
        promote={"min_macro_auroc": 0.0, "min_map": 0.0, "int8": False},
    )
    return clone


def write_label_sets(folder: Path, count: int = 90) -> None:
    """Write noisy pictures in which each colour's square is there or not, and a manifest of labels."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    lines = ["path,labels"]
    for i in range(count):
        pixels = generator.integers(0, 160, (40, 48, 3))
        there = generator.random(len(CLASSES)) < 0.5
        for number in np.flatnonzero(there):
            left = 16 * number
            pixels[12:28, left : left + 16, 2 - number] += 90
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:03d}.png")
        names = np.array(CLASSES)[there]
        lines.append(f"{i:03d}.png,{'|'.join(generator.permutation(names))}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")


def write_weights(path: Path) -> None:
    """Write seeded random weights of the tiny backbone."""
    torch.manual_seed(0)
    model = timm.create_model(BACKBONE, num_classes=0)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)


def make_text_clone(folder: Path) -> Clone:
    """Make a clone whose data are sentences in a table, and whose backbone is a tiny encoder on disk."""
    clone = make_clone(folder)
    write_sentences(folder / "sentences.csv")
    write_encoder(folder / "encoder")
    clone.set_params(
        backbone={"name": "tiny", "weights": "encoder"},
        ingest_data={"path": "sentences.csv"},
        distill={"candidates": [{"keep_stages": 2}]},
        promote={"int8": False},
    )
    return clone
