"""Where half-done work is kept between a kill and the next start; deleting it loses time only."""

import os
from pathlib import Path

SCRATCH = "HEADSTART_SCRATCH"


def scratch() -> Path:
    """Return the folder: $HEADSTART_SCRATCH, or .headstart here."""
    return Path(os.environ.get(SCRATCH) or ".headstart").absolute()
