from pathlib import Path

import pytest
import torch

from steps.core.system.checksummed import load_checked, with_checksum

TENSORS = {
    "half": torch.arange(6, dtype=torch.float16).view(2, 3), "whole": torch.tensor([[1], [2]]),
    "one": torch.tensor(3.5), "none": torch.empty(0, 4), "across": torch.arange(6.0).view(2, 3).T,
}  # fmt: skip


def test_what_is_sealed_comes_back_with_its_facts(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(with_checksum(TENSORS, {"history": "[1]"}))
    found = load_checked(file)
    assert found is not None
    assert found[1] == {"history": "[1]"}
    assert set(found[0]) == set(TENSORS)
    assert all(torch.equal(found[0][name], x) for name, x in TENSORS.items())


def test_the_same_tensors_give_the_same_bytes() -> None:
    assert with_checksum(TENSORS) == with_checksum(dict(reversed(TENSORS.items())))


def test_no_byte_can_be_changed_and_none_left_out(tmp_path: Path) -> None:
    data, file = with_checksum({"x": torch.arange(4.0)}, {"rates": "0.1"}), tmp_path / "a"
    for place in range(len(data)):
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert load_checked(file) is None, (place, data[:place])
        file.write_bytes(data[:place])
        assert load_checked(file) is None


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"{}", bytes(16)])
def test_what_is_something_else_is_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert load_checked(tmp_path / "a") is None
    assert load_checked(tmp_path / "b") is None
