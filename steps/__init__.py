"""The phases of the pipeline: one file each, one pure function of the file's name.

A phase takes artifacts and one config and returns one artifact. It knows no orchestrator.
"""

PHASES = (
    "ingest_data",
    "validate_data",
    "adapt_backbone",
    "measure_stats",
    "cache_features",
    "choose_strategy",
    "warm_up_head",
    "cache_prefix",
    "search_lr_ratio",
    "fine_tune",
    "distill",
    "evaluate",
    "promote",
)
"""Every phase of the fine-tuning in an order in which it can run; the edges follow from the signatures."""

SHARED = ("cache_features", "warm_up_head", "cache_prefix", "fine_tune", "distill")
"""The phases that several processes can compute as one."""

WATCHING = ("ingest_data", "validate_data", "watch_data")
"""What a retraining looks at before it decides."""

RETRAINING = (
    *WATCHING,
    *PHASES[PHASES.index("adapt_backbone") : PHASES.index("distill")],
    "warm_start",
    "distill",
    "evaluate",
    "judge_newest",
    "promote",
)
"""The phases of a retraining; where two make a noun of one name, the later one's goes on."""

BATCH = ("predict_batch",)
"""What answers samples with the champion; by itself, whenever somebody asks."""

UNCACHED = ("watch_data", "predict_batch")
"""Phases that ask what changes outside of the data and the params: the registry."""

ASKING = ("promote",)
"""Phases that are reused while the registry is as they left it: no rollback since, no other promotion."""
