"""Several real processes on this machine, over gloo on loopback, against one."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from steps.core.backbones import processes
from steps.core.backbones.processes import JointBatchNorm, local_slice
from tests.core import distributed_worker
from tests.core.toys import Pictures, draw_pictures

# Of a loss in nats, between one process and several: sums are taken in another order, and Adam divides
# by the root of what may be next to nothing. Seen: up to 1e-7 without BatchNorm, up to 4e-4 with it; that
# grows with the epochs.
# That it is rounding and no more is shown in float64: there, up to 5e-11 was seen.
LOSS, FLOAT64 = 1e-3, 1e-9


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("team")
    torch.manual_seed(1)
    save_file(timm.create_model("test_efficientnet").state_dict(), folder / "weights.safetensors")
    return folder


@pytest.fixture(scope="module")
def drawn(room: Path) -> Pictures:
    return draw_pictures(room / "one/pictures", distributed_worker.SOME)


def together(count: int, folder: Path, *words: str) -> Path:
    """Let processes do what the words say, all to the end."""
    workers = distributed_worker.start(count, folder, *words)
    said = [worker.communicate(timeout=240)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * count, "\n".join(said)
    return folder


@pytest.fixture(scope="module")
def two(room: Path) -> Path:
    return together(2, room / "two", "cache", *distributed_worker.TRAININGS, distributed_worker.RESUMED)


@pytest.fixture(scope="module")
def alone(room: Path, drawn: Pictures) -> Callable[[str], dict[str, Tensor]]:
    def compute(word: str) -> dict[str, Tensor]:
        distributed_worker.do(word, room / "one", drawn)
        return load_file(room / f"one/{word}-0.safetensors")

    return compute


def of_rank(folder: Path, word: str, rank: int) -> dict[str, Tensor]:
    return load_file(folder / f"{word}-{rank}.safetensors")


def hold(one: dict[str, Tensor], several: dict[str, Tensor], what: str) -> None:
    """Compare losses and weights, and say how far apart they are."""
    assert one["losses"].shape == several["losses"].shape
    apart = (one["losses"] - several["losses"]).abs().max().item()
    weights = max(float((one[name].double() - x.double()).abs().max()) for name, x in several.items())
    print(f"{what}: losses differ by {apart:.1e} nats, weights by {weights:.1e}")
    assert apart <= LOSS
    if what in (distributed_worker.PRECISE, distributed_worker.RESUMED):
        train = (one["losses"] - several["losses"])[:, 0].abs().max().item()
        print(f"in float64, training losses differ by {train:.1e} nats, weights by {weights:.1e}")
        assert max(train, weights) <= FLOAT64


@pytest.mark.parametrize("word", [*distributed_worker.TRAININGS, distributed_worker.RESUMED])
def test_two_processes_train_as_one_does(
    word: str, two: Path, alone: Callable[[str], dict[str, Tensor]]
) -> None:
    first, second = (of_rank(two, word, rank) for rank in (0, 1))
    assert all(torch.equal(x, second[name]) for name, x in first.items()), "both hold the same weights"
    hold(alone(word), first, word)


def test_three_processes_of_which_the_last_batch_has_too_few_samples_train_as_one_does(
    room: Path, alone: Callable[[str], dict[str, Tensor]]
) -> None:
    three = together(3, room / "three", distributed_worker.PRECISE)
    hold(
        alone(distributed_worker.PRECISE),
        of_rank(three, distributed_worker.PRECISE, 2),
        distributed_worker.PRECISE,
    )


def test_two_processes_fill_the_cache_with_the_bytes_of_one(room: Path, two: Path, drawn: Pictures) -> None:
    distributed_worker.fill(room / "one", drawn)
    names = [json.loads((room / f"{who}.json").read_text()) for who in ("one/shards-0", "two/shards-0")]
    assert names == [json.loads((two / "shards-1.json").read_text())] * 2
    digests = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")}
        for folder in (room / "one/cache/features", two / "cache/features")
    ]
    assert digests[0] == digests[1]
    assert set(digests[0]) == set(names[0].values())
    assert len(digests[0]) == 9 + 5 + 2


def test_a_process_that_is_killed_ends_the_others_within_seconds_and_they_say_why(room: Path) -> None:
    workers = distributed_worker.start(2, room / "killed", "die")
    said = [worker.communicate(timeout=120)[0] for worker in workers]
    seconds = time.time() - float((room / "killed/killed").read_text())
    assert workers[1].returncode == -9
    assert workers[0].returncode == 1, said[0]
    assert (
        "ProcessError: process 0 of 2 waited for another process that has ended or does not answer" in said[0]
    )
    assert "Traceback" not in said[0]
    print(f"ended {seconds:.1f} s after the kill")
    assert seconds < 20


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be one of two processes that both hold the same numbers."""
    monkeypatch.setattr(processes, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "sum_over_processes", lambda x: 2 * x)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 5, 6)])
def test_the_joint_norm_of_two_equal_halves_is_batch_norm_s_of_both(
    half: None, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(shape), torch.randn(3), torch.randn(3)
    found, wanted = ([torch.zeros(3), torch.ones(3)] for _ in range(2))
    with JointBatchNorm(8):
        y = F.batch_norm(x, *found, weight, bias, training=True, momentum=0.3)
    plain = F.batch_norm(torch.cat([x, x]), *wanted, weight, bias, training=True, momentum=0.3)
    torch.testing.assert_close(y, plain[:4])
    torch.testing.assert_close(found, wanted)


@pytest.mark.usefixtures("half")
def test_a_norm_that_is_frozen_is_left_alone() -> None:
    x, mean, var = torch.randn(4, 3), torch.zeros(3), torch.ones(3)
    with JointBatchNorm(8):
        assert torch.equal(F.batch_norm(x, mean, var, training=False), F.batch_norm(x, mean, var))
    assert torch.equal(mean, torch.zeros(3))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [2, 3, 8, 33])
def test_the_parts_of_a_batch_are_all_of_it_once_or_it_is_everyone_s(
    size: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "process_count", lambda: count)
    parts = []
    for rank in range(count):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        parts.append(list(range(size))[local_slice(size)])
    if size < count:
        assert parts == [list(range(size))] * count
    else:
        assert [row for part in parts for row in part] == list(range(size))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
