"""Lay out the frozen-prefix cache over a data set: which samples in which shard."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from steps.core.backbones.processes import (
    assert_equal_everywhere,
    on_device,
    process_count,
    rank,
    wait_for_all,
)
from steps.core.data.files import Source
from steps.core.data.rows import open_source
from steps.core.data.splits import SPLITS
from steps.core.features.embedding import Encoder
from steps.core.features.extraction import Extractor, Sample
from steps.core.features.linear_head import groups_of
from steps.core.features.settings import CacheSettings
from steps.core.modalities.networks import build_network
from steps.core.system.errors import BackboneError, DiskError, ProcessError
from steps.core.system.progress import count, progress
from steps.core.system.storage import file_sha256
from steps.core.tasks.labelling import ONE_LABEL, Labelling


def build_cache(
    table: pd.DataFrame,
    labels: list[str],
    root: str,
    encoder: Encoder,
    samples: Any,
    cfg: CacheSettings,
    scratch: Path,
    labelling: Labelling = ONE_LABEL,
) -> tuple[pd.DataFrame, dict[str, Path], dict[str, Any]]:
    """Return the index (a row per sample), the shard files by name, and what describes them.

    `samples` are the modality's settings, of which nothing is undecided.
    """
    about = (encoder.modality, encoder.name, encoder.preprocessing)
    network = on_device(build_network(*about, len(labels), encoder.weights))
    extractor = Extractor(
        network,
        freeze_boundary(cfg.unfreeze, len(network.stages)),
        encoder.modality.views(encoder.preprocessing, samples, cfg.seed),
        cfg.dtype,
        cfg.micro_batch,
        file_sha256(encoder.weights),
        scratch / "features",
    )
    index, shards = [], {}
    source = open_source(root, scratch, table)
    plan = plan_shards(table, cfg.shard_samples, cfg.views)
    check_disk_space(extractor, plan)
    fill_distributed(extractor, source, plan)
    with progress("caching", len(table), "sample") as advance:
        for name, part, views in plan:
            shards[name] = extractor.shard(source, samples_of(part), views)
            numbers = list(labelling.encode(part["label"], labels))
            facts = part[["sha256", "path", "split"]].assign(group=groups_of(part))
            index.append(facts.assign(shard=name, row=range(len(part)), label=numbers))
            advance(len(part))
    meta = describe_cache(extractor, cfg, encoder)
    meta |= {"labels": labels, "root": root}
    return pd.concat(index, ignore_index=True), shards, meta


def describe_cache(extractor: Extractor, cfg: CacheSettings, encoder: Encoder) -> dict[str, Any]:
    """Return what a reader of the cache, and of a model trained on it, has to know."""
    return {
        "modality": encoder.modality.name,
        "backbone": encoder.name,
        "weights_sha256": extractor.weights_sha256,
        "stages": len(extractor.network.stages),
        "boundary": extractor.boundary,
        "views": cfg.views,
        "bytes_per_view": extractor.sizes()[0],
        "dtype": cfg.dtype,
        "micro_batch": cfg.micro_batch,
        **extractor.views.describe(),
    }


def samples_of(part: pd.DataFrame) -> list[Sample]:
    """Return the samples of a shard's rows."""
    return [Sample(p, s) for p, s in zip(part["path"], part["sha256"], strict=True)]


def fill_distributed(extractor: Extractor, source: Source, plan: list[tuple[str, pd.DataFrame, int]]) -> None:
    """Compute what is missing in all processes, each shard in one of them, and wait for the last.

    Raises:
        ProcessError: The processes would not make the same bytes, or do not see each other's files.
    """
    if process_count() == 1:
        return
    assert_equal_everywhere(
        "device, threads or versions", extractor.key([], 0), "start them on machines of one kind"
    )
    missing = [
        (samples, views)
        for samples, views in ((samples_of(part), views) for _, part, views in plan)
        if extractor.missing(samples, views)
    ]
    wait_for_all()  # nobody begins before everybody has looked
    mine = missing[rank() :: process_count()]
    for samples, views in count(mine, f"caching, process {rank()}", len(mine), "shard"):
        extractor.shard(source, samples, views)
    wait_for_all()
    if unseen := sum(extractor.missing(samples, views) for samples, views in missing):
        raise ProcessError(
            f"{unseen} of {len(missing)} shards, computed by other processes, are not in {extractor.folder}: "
            "HEADSTART_SCRATCH must be a folder that all of them see"
        )


def check_disk_space(extractor: Extractor, plan: list[tuple[str, pd.DataFrame, int]]) -> None:
    """Look whether the shards that are missing fit on the disk, before hours are spent on them.

    Raises:
        DiskError: They do not.
    """
    per_view, per_sample = extractor.sizes()
    needed = sum(
        len(part) * ((1 + views) * per_view + per_sample)
        for _, part, views in plan
        if extractor.missing(samples_of(part), views)
    )
    extractor.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(extractor.folder).free
    if needed > free:
        raise DiskError(
            f"the cache needs {needed / 1e9:.2f} GB, {per_view / 1e3:.1f} kB for every view, and "
            f"{extractor.folder} has {free / 1e9:.2f} GB free: lower cache_features.views or "
            "the size of the samples, set cache_features.dtype to float16, choose another "
            "fine_tune.unfreeze, "
            "or point HEADSTART_SCRATCH to a larger disk"
        )


def freeze_boundary(unfreeze: int | str, stages: int) -> int:
    """Return how many stages are frozen when the last `unfreeze` of them, or all, are trained."""
    if unfreeze == "all":
        return 0
    if not isinstance(unfreeze, int) or unfreeze > stages:
        raise BackboneError(f"fine_tune.unfreeze: found {unfreeze}, expected 0 to {stages}, or all")
    return stages - unfreeze


def plan_shards(table: pd.DataFrame, size: int, views: int) -> list[tuple[str, pd.DataFrame, int]]:
    """Return shard name, rows and number of seeded views; only train is looked at more than once."""
    plan = []
    for split in SPLITS:
        rows = table[table["split"] == split]
        for number, first in enumerate(range(0, len(rows), size)):
            part = rows.iloc[first : first + size].reset_index(drop=True)
            name = f"{split}-{number:05d}.safetensors"
            plan.append((name, part, views if split == "train" else 0))
    return plan
