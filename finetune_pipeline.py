"""Makes `zenml pipeline run finetune_pipeline` work: the pipeline itself takes this module's place."""

import sys

from pipelines.finetune import finetune_pipeline

sys.modules[__name__] = finetune_pipeline  # type: ignore[assignment]
