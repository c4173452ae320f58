"""Freed memory that is used again instead of being given back and fetched anew."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from steps.core.system.allocator import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def step():
    return [torch.ones(1 << 20) for _ in range(40)]  # 4 MB each

for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way: str, **environ: str) -> int:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, way],
        env={**clean, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") is None, reason="glibc's allocator is meant")
def test_what_a_step_frees_the_next_one_uses_again() -> None:
    # Left to itself, glibc gives back or keeps by what happens to lie at the heap's end.
    fixed = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    plain, kept = faults("plain", **fixed), faults("kept", **fixed)
    assert plain > 20 * 40 * 100
    assert kept < plain / 100


def test_who_has_set_the_allocator_is_left_alone() -> None:
    assert faults("kept", MALLOC_TRIM_THRESHOLD_="1", MALLOC_MMAP_THRESHOLD_="1") > 20 * 40 * 100
