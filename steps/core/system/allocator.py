"""Memory that a training frees stays with the process, to be used again by its next step."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
MAX_MMAP_THRESHOLD = 32 << 20  # bytes; the highest that glibc takes as M_MMAP_THRESHOLD


def keep_freed_memory() -> None:
    """Tell glibc's allocator not to give freed memory back to the kernel; elsewhere do nothing.

    Every step frees its activations, hundreds of megabytes. Given back, they return page by page, zeroed and
    cold: a training in a process that had run for a while spent a fifth of its time on that. The most that
    a phase holds at once stays the same. Who has set MALLOC_TRIM_THRESHOLD_ knows better.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_TRIM_THRESHOLD_" not in os.environ:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, MAX_MMAP_THRESHOLD)
