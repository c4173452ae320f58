"""Fixtures that several tests of core share; none of them may be written to."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import settings
from safetensors.torch import save_file

from tests.core.toys import Pictures, draw_pictures

# The same examples every time, and no clock: the machine may be busy with something else.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute in one thread: with networks this small, threads only wait for one another (10 times)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """27 tiny pictures of three classes in three splits."""
    return draw_pictures(tmp_path_factory.mktemp("pictures") / "data")


@pytest.fixture(scope="session")
def weights_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write random weights of a timm model to a safetensors file, as its authors would publish them."""
    folder = tmp_path_factory.mktemp("weights")

    def write(name: str) -> Path:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            torch.manual_seed(1)
            save_file(timm.create_model(name).state_dict(), path)
        return path

    return write
