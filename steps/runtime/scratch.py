"""Where half-done work is kept between a kill and the next start; deleting it loses time only."""

import hashlib
import os
from pathlib import Path

from steps.core.system.code import ROOT
from steps.core.system.storage import file_sha256
from steps.runtime.phase import load_phase

SCRATCH = "HEADSTART_SCRATCH"


def scratch() -> Path:
    """Return the folder: $HEADSTART_SCRATCH, or .headstart here."""
    return Path(os.environ.get(SCRATCH) or ".headstart").absolute()


def training_file(phase: str, *depends: str) -> Path:
    """Return where a phase keeps its training between epochs; the name stands for all that goes in.

    Args:
        phase: Its code is part of the name.
        depends: Digests of the inputs, the config as text, and whether it multiplies in bfloat16.
    """
    code = (file_sha256(ROOT / file) for file in load_phase(phase).code)
    key = hashlib.sha256("\n".join([phase, *depends, *code]).encode()).hexdigest()
    return scratch() / "training" / f"{key[:32]}.safetensors"


def study_storage(folder: Path) -> str:
    """Return where the search keeps its trials: $HEADSTART_STUDY_STORAGE, or a file in `folder`.

    Workers that share a storage, a file on one machine or PostgreSQL for several, share the trials.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return os.environ.get("HEADSTART_STUDY_STORAGE") or f"sqlite:///{folder / 'study.db'}"
