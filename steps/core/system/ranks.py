"""What a launcher has told this process: its number, and how many there are. Needs no torch."""

import os

RANK_VARIABLES = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
SIZE_VARIABLES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def rank_and_size() -> tuple[int, int]:
    """Return rank and number of processes, by torchrun's names or those of MPI; 0 and 1 without any."""
    rank, size = (
        next((int(os.environ[name]) for name in names if name in os.environ), lone)
        for names, lone in ((RANK_VARIABLES, 0), (SIZE_VARIABLES, 1))
    )
    return rank, size


def accelerate_started_one() -> bool:
    """Say whether `accelerate launch` was asked for several processes and has started one.

    Where it finds no GPUs it does so without a word; it has then named a place to meet, and no ranks.
    """
    asked = "MASTER_ADDR" in os.environ and "ACCELERATE_MIXED_PRECISION" in os.environ
    return asked and not any(name in os.environ for name in RANK_VARIABLES)
