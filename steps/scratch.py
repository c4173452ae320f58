"""Where half-done work is kept between a kill and the next start; deleting it loses time only."""

import os
from pathlib import Path

SCRATCH = "HEADSTART_SCRATCH"


def scratch() -> Path:
    """Return the folder: $HEADSTART_SCRATCH, or .headstart here."""
    return Path(os.environ.get(SCRATCH) or ".headstart").absolute()


def study_storage(folder: Path) -> str:
    """Return where the search keeps its trials: $HEADSTART_STUDY_STORAGE, or a file in `folder`.

    Workers that share a storage, a file on one machine or PostgreSQL for several, share the trials.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return os.environ.get("HEADSTART_STUDY_STORAGE") or f"sqlite:///{folder / 'study.db'}"
