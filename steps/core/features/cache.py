"""Lay out the caches over a data set: which samples in which shard.

The features are what every stage puts out for one view of every sample: heads are made of them, and the
strategy is chosen by them. The prefix is what enters the network where the stages that train begin, for every
view.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from steps.core.backbones.network import Network
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
from steps.core.features.batches import LENGTH
from steps.core.features.embedding import Encoder
from steps.core.features.extraction import Extractor, Sample
from steps.core.features.linear_head import groups_of
from steps.core.features.settings import CacheSettings
from steps.core.modalities.networks import build_network
from steps.core.modalities.parts import Views
from steps.core.system.errors import DiskError, ProcessError
from steps.core.system.progress import count, progress
from steps.core.system.storage import file_sha256
from steps.core.tasks.labelling import ONE_LABEL, Labelling

Plan = list[tuple[str, pd.DataFrame, int]]
"""Shards: name, rows, and how many seeded views of each."""


class Data(NamedTuple):
    """A data set, as far as a cache of it depends on it."""

    table: pd.DataFrame
    labels: list[str]
    root: str
    labelling: Labelling = ONE_LABEL


def build_features(
    about: Data, encoder: Encoder, cfg: CacheSettings, scratch: Path
) -> tuple[pd.DataFrame, dict[str, Path], dict[str, Any]]:
    """Keep what every stage puts out for the deterministic view of every sample.

    Returns:
        The index (a row per sample), the shard files by name, and what describes them.
    """
    kind = encoder.modality
    network = on_device(build_network(kind, encoder.name, encoder.preprocessing, 2, encoder.weights))
    views, digest = kind.deterministic_views(encoder.preprocessing), file_sha256(encoder.weights)
    own = (cfg.dtype, cfg.micro_batch, digest, scratch / "features")
    extractor = Extractor(network, None, views, *own)
    index, shards = fill(extractor, about, plan_shards(about.table, cfg.shard_samples), scratch)
    return index, shards, describe(extractor, about, kind.name, encoder.name)


def build_prefix(
    about: Data,
    network: Network,
    of: Mapping[str, Any],
    views: tuple[Views, int],
    boundary: int,
    cfg: CacheSettings,
    scratch: Path,
) -> tuple[pd.DataFrame, dict[str, Path], dict[str, Any]]:
    """Keep what enters a network at its freeze boundary, of every view; at boundary 0 the samples do.

    Args:
        about: The data set.
        network: Its stages below the boundary are as they were pretrained.
        of: The network's modality, backbone and weights_sha256.
        views: The deterministic view and seeded ones, and how many of those every training sample has.
        boundary: Of the network's stages.
        cfg: How it is kept.
        scratch: Where shards are kept from run to run.

    Returns:
        See `build_features`.
    """
    seen, count = views
    own = (cfg.dtype, cfg.micro_batch, of["weights_sha256"], scratch / "features")
    extractor = Extractor(on_device(network), boundary, seen, *own)
    plan = plan_views(about.table, cfg.shard_samples, count)
    index, shards = fill(extractor, about, plan, scratch, kept=boundary > 0)
    meta = describe(extractor, about, of["modality"], of["backbone"])
    meta |= {"boundary": boundary, "views": count, "readout": network.readout.to_dict()}
    return index, shards, meta


def fill(
    extractor: Extractor, about: Data, plan: Plan, scratch: Path, kept: bool = True
) -> tuple[pd.DataFrame, dict[str, Path]]:
    """Return the index and, where anything is `kept`, the shards by name, computed where they are missing."""
    index, shards = [], {}
    source = open_source(about.root, scratch, about.table)
    if kept:
        check_disk_space(extractor, plan)
        fill_distributed(extractor, source, plan)
    with progress("caching", len(about.table), "sample") as advance:
        for name, part, views in plan:
            if kept:
                shards[name] = extractor.shard(source, samples_of(part), views)
            numbers = list(about.labelling.encode(part["label"], about.labels))
            known = [name for name in ("sha256", "path", "split", LENGTH) if name in part]
            facts = part[known].assign(group=groups_of(part))
            index.append(facts.assign(shard=name, row=range(len(part)), label=numbers))
            advance(len(part))
    return pd.concat(index, ignore_index=True), shards


def describe(extractor: Extractor, about: Data, modality: str, backbone: str) -> dict[str, Any]:
    """Return what a reader of the cache, and of a model trained on it, has to know."""
    return {
        "modality": modality,
        "backbone": backbone,
        "weights_sha256": extractor.weights_sha256,
        "stages": len(extractor.network.stages),
        "bytes_per_view": extractor.bytes_per_view(),
        "dtype": extractor.dtype,
        "micro_batch": extractor.micro_batch,
        **extractor.views.describe(),
        "labels": about.labels,
        "root": about.root,
    }


def samples_of(part: pd.DataFrame) -> list[Sample]:
    """Return the samples of a shard's rows."""
    return [Sample(p, s) for p, s in zip(part["path"], part["sha256"], strict=True)]


def fill_distributed(extractor: Extractor, source: Source, plan: Plan) -> None:
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


def check_disk_space(extractor: Extractor, plan: Plan) -> None:
    """Look whether the shards that are missing fit on the disk, before hours are spent on them.

    Raises:
        DiskError: They do not.
    """
    per_view = extractor.bytes_per_view()
    needed = sum(
        len(part) * (1 + views) * per_view
        for _, part, views in plan
        if extractor.missing(samples_of(part), views)
    )
    extractor.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(extractor.folder).free
    if needed > free:
        raise DiskError(
            f"the cache needs {needed / 1e9:.2f} GB, {per_view / 1e3:.1f} kB for every view, and "
            f"{extractor.folder} has {free / 1e9:.2f} GB free: lower cache_prefix.views or "
            "the size of the samples, set cache_features.dtype to float16, choose another "
            "fine_tune.unfreeze, "
            "or point HEADSTART_SCRATCH to a larger disk"
        )


def plan_shards(table: pd.DataFrame, size: int) -> Plan:
    """Return shard name, rows and number of seeded views, none; in the table's order, whatever the splits."""
    return [
        (f"{number:05d}.safetensors", table.iloc[first : first + size].reset_index(drop=True), 0)
        for number, first in enumerate(range(0, len(table), size))
    ]


def plan_views(table: pd.DataFrame, size: int, views: int) -> Plan:
    """Return shard name, rows and number of seeded views; only train is looked at more than once."""
    return [
        (f"{split}-{name}", part, views if split == "train" else 0)
        for split in SPLITS
        for name, part, _ in plan_shards(table[table["split"] == split], size)
    ]
