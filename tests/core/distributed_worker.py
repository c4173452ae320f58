"""What processes compute in the tests: `python -m tests.core.distributed_worker FOLDER WORD...`.

Each rank writes what it came to into FOLDER/<word>-<rank>.safetensors.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor

from steps.core.backbones.processes import is_main_process, rank
from steps.core.features.batches import Source
from steps.core.features.cache import Data, build_prefix
from steps.core.features.settings import CacheSettings
from steps.core.system.errors import HeadstartError
from steps.core.system.storage import file_sha256
from steps.core.training.loop import Epoch, Trained, predict, train
from steps.core.training.objectives import Classify, Distil, Objective
from steps.core.training.parameter_groups import parameter_groups
from tests.core.toys import (
    IMAGE,
    LABELS,
    PREPROCESSING,
    RECIPE,
    Pictures,
    batches,
    build,
    cached,
    draw_pictures,
    image_network,
    image_settings,
    uncached,
)

SOME = {"train": 6, "val": 3, "test": 1}  # of each class: 18 to train on
MIXING = {"mixup": 0.4, "cutmix": 1.0}
PRECISE = "precise"  # computed in float64
RESUMED = "resumed"  # the same, stopped and begun again
TRAININGS: Mapping[str, tuple[str, int, dict[str, Any]]] = {
    # name, boundary, recipe; batches of 8, 8, 2
    "batch_norm": ("test_efficientnet", 3, {}),
    "layer_norm": ("test_convnext", 2, {}),
    "everything": ("test_resnet", 0, {"epochs": 1}),
    "head": ("test_efficientnet", 6, {"epochs": 3}),
    "mixed": ("test_efficientnet", 3, MIXING),
    "mixed_last": ("test_convnext", 2, MIXING),
    "distilled": ("test_efficientnet", 3, MIXING),
    PRECISE: ("test_efficientnet", 3, {"mixup": 0.4}),
}


def main(folder: Path, *words: str) -> None:
    """Do what the words say; what goes wrong ends the process as it ends a phase."""
    torch.set_num_threads(1)
    pictures = draw_pictures(folder / f"pictures-{rank()}", SOME)
    try:
        for word in words:
            do(word, folder, pictures)
    except HeadstartError as error:
        raise SystemExit(f"process {rank()}: {type(error).__name__}: {error}") from None


def do(word: str, folder: Path, pictures: Pictures) -> None:
    """Do one thing."""
    if word == "cache":
        fill(folder, pictures)
    elif word == "die":
        die(folder, pictures)
    elif word == RESUMED:
        file = folder / "resumed.safetensors"
        stopped(pictures, folder, file)
        write(folder, word, learn(PRECISE, pictures, folder, file, epochs=4))
    else:
        write(folder, word, learn(word, pictures, folder))


def learn(
    word: str, pictures: Pictures, folder: Path, file: Path | None = None, tell: Any = None, **more: Any
) -> Trained:
    """Train a tiny network on tiny pictures."""
    name, boundary, changes = TRAININGS[word]
    recipe = RECIPE.model_copy(update={"batch_size": 8, **changes, **more})
    network = build(name)
    if boundary:
        scratch = folder / f"shards-{rank()}"
        source: Any = cached(pictures, network, boundary, scratch)
    else:
        source = uncached(pictures, network, 0)
    if word == PRECISE:
        network, source = network.double(), Doubled(source, source.index)
    found = batches(source, source.index, recipe.batch_size)
    network.freeze(boundary)
    groups = parameter_groups(network, boundary, 3e-3, 0.5, recipe.weight_decay)
    task: Objective = Distil(build(name), 4.0, 0.9, recipe) if word == "distilled" else Classify(recipe)
    trained = train(network, boundary, task, found, recipe, groups, tell or (lambda epoch: None), file)
    logits, _ = predict(trained.network, found, "val")
    assert torch.equal(logits, trained.best.val_logits)
    return trained


@dataclass(frozen=True)
class Doubled:
    """A source in float64."""

    inner: Source
    index: pd.DataFrame

    @property
    def start(self) -> int:
        """See `Source.start`."""
        return self.inner.start

    def get(self, rows: list[int], views: list[int]) -> Tensor:
        """See `Source.get`."""
        return self.inner.get(rows, views).double()


class Stopped(BaseException):
    """Stands for the end of a run."""


def stopped(pictures: Pictures, folder: Path, file: Path) -> None:
    """Train for some of four epochs."""

    def tell(epoch: Epoch) -> None:
        if epoch.epoch == 3:
            raise Stopped

    try:
        learn(PRECISE, pictures, folder, file, tell, epochs=4)
    except Stopped:
        return


def fill(folder: Path, pictures: Pictures) -> None:
    """Fill one cache, in a folder that all ranks see."""
    weights = folder.parent / "weights.safetensors"
    network = image_network("test_efficientnet", len(LABELS), 32, weights)
    of = {"modality": "image", "backbone": "test_efficientnet", "weights_sha256": file_sha256(weights)}
    settings = CacheSettings(dtype="float16", shard_samples=2, micro_batch=4)
    about = Data(pictures.table, LABELS, str(pictures.root))
    views = IMAGE.views(PREPROCESSING, image_settings(), 0), 2
    _, shards, _ = build_prefix(about, network, of, views, 3, settings, folder / "cache")
    (folder / f"shards-{rank()}.json").write_text(json.dumps({n: p.name for n, p in shards.items()}))


def die(folder: Path, pictures: Pictures) -> None:
    """Train long; the second process is killed, as by a machine that runs out of memory."""

    def tell(epoch: Epoch) -> None:
        if epoch.epoch == 2 and not is_main_process():
            (folder / "killed").write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)

    learn("batch_norm", pictures, folder, tell=tell, epochs=10_000, patience=10_000)


def write(folder: Path, word: str, trained: Trained) -> None:
    """Keep curve and weights of a rank."""
    losses = torch.tensor([[e.train_loss, e.val_loss] for e in trained.history], dtype=torch.float64)
    state: dict[str, Tensor] = {**trained.network.state(), "losses": losses}
    save_file({name: x.contiguous() for name, x in state.items()}, folder / f"{word}-{rank()}.safetensors")


def start(count: int, folder: Path, *words: str, **env: str) -> "list[subprocess.Popen[str]]":
    """Start `count` processes of this file that meet on loopback."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meet = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GLOO_SOCKET_IFNAME": "lo",
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        **env,
    }
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.core.distributed_worker", str(folder), *words],
            env={**os.environ, **meet, "RANK": str(number), "LOCAL_RANK": str(number)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in range(count)
    ]  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
