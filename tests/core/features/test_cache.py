from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from steps.artifacts.features import Features
from steps.core.data.splits import SPLITS
from steps.core.features.cache import Data, build_features, build_prefix, plan_shards, plan_views
from steps.core.features.embedding import MICRO_BATCH, SHARD, Encoder, embed
from steps.core.features.settings import CacheSettings
from steps.core.system.errors import DataError, DiskError
from steps.core.system.storage import file_sha256
from steps.core.tasks.labelling import LABEL_SETS
from steps.core.tasks.targets import stack
from tests.core.toys import (
    AUGMENTATION,
    IMAGE,
    LABELS,
    PREPROCESSING,
    Pictures,
    draw_pictures,
    image_encoder,
    image_network,
    image_settings,
)

Built = tuple[pd.DataFrame, dict[str, Path], dict[str, Any]]


@pytest.fixture
def settings() -> CacheSettings:
    return CacheSettings(dtype="float32", shard_samples=5, micro_batch=4)


@pytest.fixture
def encoder(weights_of: Callable[[str], Path]) -> Encoder:
    return image_encoder("test_efficientnet", weights_of("test_efficientnet"))


def laid_out(pictures: Pictures, settings: CacheSettings, scratch: Path, encoder: Encoder) -> Built:
    about = Data(pictures.table, LABELS, str(pictures.root))
    return prefix_of(about, encoder, settings, scratch)


def prefix_of(
    about: Data, encoder: Encoder, settings: CacheSettings, scratch: Path, boundary: int = 3
) -> Built:
    """Lay out what enters at a boundary, with two seeded views."""
    network = image_network("test_efficientnet", len(LABELS), 32, encoder.weights)
    views = IMAGE.views(encoder.preprocessing, image_settings(), 0), 2
    of = {"modality": "image", "backbone": encoder.name, "weights_sha256": file_sha256(encoder.weights)}
    return build_prefix(about, network, of, views, boundary, settings, scratch)


def test_every_sample_has_a_row_and_every_row_a_place_of_its_own(
    pictures: Pictures, settings: CacheSettings, encoder: Encoder, tmp_path: Path
) -> None:
    index, shards, _ = laid_out(pictures, settings, tmp_path, encoder)
    assert sorted(index["sha256"]) == sorted(pictures.table["sha256"])
    assert not index.duplicated(["shard", "row"]).any()
    wanted = pictures.table.set_index("sha256")
    for row in index.to_dict("records"):
        assert LABELS[row["label"]] == wanted.loc[row["sha256"], "label"]
        assert row["split"] == wanted.loc[row["sha256"], "split"]
        assert row["shard"].startswith(row["split"])
    assert set(index["shard"]) == set(shards)


def test_label_sets_are_kept_as_indicators_that_a_file_gives_back(
    pictures: Pictures, settings: CacheSettings, encoder: Encoder, tmp_path: Path
) -> None:
    cells = ["", "blue|red", *pictures.table["label"][2:]]
    table = pictures.table.assign(label=cells)
    about = Data(table, LABELS, str(pictures.root), LABEL_SETS)
    index, shards, meta = build_features(about, encoder, settings, tmp_path / "scratch")
    Features(index, shards, meta).save(tmp_path / "features")
    again = Features.load(tmp_path / "features")
    assert again.digest == Features(index, shards, meta).digest
    found = stack(again.index_table["label"])
    wanted = LABEL_SETS.encode(table.set_index("sha256")["label"].loc[again.index_table["sha256"]], LABELS)
    np.testing.assert_array_equal(found, wanted)
    assert found.sum() == len(cells)


def test_training_samples_have_all_views_and_the_others_the_plain_one(
    pictures: Pictures, settings: CacheSettings, encoder: Encoder, tmp_path: Path
) -> None:
    index, shards, meta = laid_out(pictures, settings, tmp_path, encoder)
    for name, path in shards.items():
        tensors = load_file(path)
        samples, views = (index["shard"] == name).sum(), 3 if name.startswith("train") else 1
        assert tensors["h"].shape[:2] == (samples, views)
    assert (meta["stages"], meta["boundary"], meta["views"]) == (6, 3, 2)


def test_the_cache_says_what_it_was_made_from(
    pictures: Pictures, settings: CacheSettings, encoder: Encoder, tmp_path: Path
) -> None:
    meta = laid_out(pictures, settings, tmp_path, encoder)[2]
    assert meta["weights_sha256"] == file_sha256(encoder.weights)
    assert meta["preprocessing"] == PREPROCESSING.to_dict()
    assert meta["augmentation"] == AUGMENTATION.model_dump()
    assert meta["labels"] == LABELS


def test_the_values_are_those_of_the_pretrained_network(
    pictures: Pictures, settings: CacheSettings, encoder: Encoder, tmp_path: Path
) -> None:
    _, shards, _ = laid_out(pictures, settings, tmp_path, encoder)
    at_the_top = prefix_of(Data(pictures.table, LABELS, str(pictures.root)), encoder, settings, tmp_path, 6)
    network = image_network("test_efficientnet", 3, 32, encoder.weights)
    h, z = (load_file(found["val-00000.safetensors"]) for found in (shards, at_the_top[1]))
    with torch.inference_mode():
        torch.testing.assert_close(network.embed(h["h"][:, 0], 3), z["z"][:, 0], atol=1e-5, rtol=1e-5)


def test_where_all_stages_train_nothing_is_kept_but_the_index(
    pictures: Pictures, settings: CacheSettings, encoder: Encoder, tmp_path: Path
) -> None:
    about = Data(pictures.table, LABELS, str(pictures.root))
    index, shards, meta = prefix_of(about, encoder, settings, tmp_path, 0)
    assert not shards
    assert not (tmp_path / "features").exists()
    assert (len(index), meta["boundary"]) == (len(pictures.table), 0)


def test_features_find_what_the_audit_has_embedded(
    pictures: Pictures, encoder: Encoder, tmp_path: Path
) -> None:
    embed(pictures.folder(), pictures.table, encoder, tmp_path)
    before = set((tmp_path / "features").iterdir())
    half = CacheSettings(dtype="float16", shard_samples=SHARD, micro_batch=MICRO_BATCH)
    about = Data(pictures.table, LABELS, str(pictures.root))
    _, shards, _ = build_features(about, encoder, half, tmp_path)
    assert set(shards.values()) == before


def test_a_cache_that_exists_is_not_computed_again_and_a_larger_one_adds_to_it(
    settings: CacheSettings, encoder: Encoder, tmp_path: Path
) -> None:
    own = draw_pictures(tmp_path / "own", {"train": 2, "val": 2})
    before = laid_out(own, settings, tmp_path / "scratch", encoder)
    (own.root / "train/red/0.png").unlink()
    again = laid_out(own, settings, tmp_path / "scratch", encoder)
    assert before[1] == again[1]
    pd.testing.assert_frame_equal(before[0], again[0])
    with pytest.raises(DataError, match=r"train/red/0\.png"):
        laid_out(own, settings, tmp_path / "elsewhere", encoder)


def test_an_interrupted_cache_keeps_the_shards_it_has(
    settings: CacheSettings, encoder: Encoder, tmp_path: Path
) -> None:
    own = draw_pictures(tmp_path / "own", {"train": 4})
    data = (own.root / own.table["path"].iloc[-1]).read_bytes()
    (own.root / own.table["path"].iloc[-1]).unlink()
    with pytest.raises(DataError):
        laid_out(own, settings, tmp_path / "scratch", encoder)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "scratch/features").iterdir()}
    assert len(kept) == 2
    (own.root / own.table["path"].iloc[-1]).write_bytes(data)
    shards = set(laid_out(own, settings, tmp_path / "scratch", encoder)[1].values())
    assert set(kept) < shards
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


@given(st.lists(st.sampled_from(SPLITS), max_size=40), st.integers(1, 9), st.integers(0, 4))
def test_a_plan_covers_every_row_once_in_shards_of_one_split(
    splits: list[str], size: int, views: int
) -> None:
    table = pd.DataFrame({"path": [f"{n}" for n in range(len(splits))], "split": splits})
    plan = plan_views(table, size, views)
    whole = plan_shards(table, size)
    assert [path for _, part, _ in whole for path in part["path"]] == list(table["path"])
    assert sorted(path for _, part, _ in plan for path in part["path"]) == sorted(table["path"])
    assert len({name for name, _, _ in plan}) == len(plan)
    for name, part, seeded in plan:
        (split,) = set(part["split"])
        assert name.startswith(split)
        assert 1 <= len(part) <= size
        assert seeded == (views if split == "train" else 0)
    assert len(plan) == sum(-(-splits.count(split) // size) for split in SPLITS)


def test_a_disk_that_is_too_small_is_refused_with_the_size_before_anything_is_computed(
    pictures: Pictures,
    settings: CacheSettings,
    encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1000))
    with pytest.raises(DiskError, match=r"needs .* GB, .* kB for every view.*lower cache_prefix\.views"):
        laid_out(pictures, settings, tmp_path, encoder)
    assert not list((tmp_path / "features").iterdir())
    monkeypatch.undo()
    laid_out(pictures, settings, tmp_path, encoder)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1000))
    laid_out(pictures, settings, tmp_path, encoder)  # all shards are there: nothing is needed


def test_the_bytes_of_a_view_are_those_in_the_shards(
    pictures: Pictures, settings: CacheSettings, encoder: Encoder, tmp_path: Path
) -> None:
    _, shards, meta = laid_out(pictures, settings, tmp_path, encoder)
    tensors = load_file(shards["train-00000.safetensors"])
    views = tensors["h"].shape[0] * tensors["h"].shape[1]
    assert meta["bytes_per_view"] * views == tensors["h"].nbytes
