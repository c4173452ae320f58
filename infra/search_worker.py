"""Help the search: `python -m infra.search_worker` tries rates until the budget is spent, and saves nothing.

Any number of workers may run beside each other and beside the phase itself; they share the trials by their
storage. The phase, started with the same inputs and parameters, concludes from what they have found.
"""

import logging
import os

from steps.core.system.errors import HeadstartError
from steps.runtime.phase import all_configs, load_phase
from steps.runtime.run import ARTIFACTS, execute

PHASE = "search_lr_ratio"


def name() -> str:
    """Name the workers of one array alike: they are nested below one run of the tracker."""
    return f"search-workers-{os.environ.get('SLURM_ARRAY_JOB_ID') or os.getpid()}"


def main() -> None:
    """Run the phase on the artifacts in this folder and leave its result to whoever runs the phase itself."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    phase = load_phase(PHASE)
    try:
        cfg = all_configs()[PHASE]
        inputs = {noun: kind.load(ARTIFACTS / noun) for noun, kind in phase.inputs.items()}
        execute(phase, inputs, cfg, name())
    except HeadstartError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None


if __name__ == "__main__":
    main()
