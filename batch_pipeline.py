"""Makes `zenml pipeline run batch_pipeline` work: the pipeline itself takes this module's place."""

import sys

from pipelines.batch import batch_pipeline

sys.modules[__name__] = batch_pipeline  # type: ignore[assignment]
