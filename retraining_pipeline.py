"""Makes `zenml pipeline run retraining_pipeline` work: the pipeline itself takes this module's place."""

import sys

from pipelines.retraining import retraining_pipeline

sys.modules[__name__] = retraining_pipeline  # type: ignore[assignment]
