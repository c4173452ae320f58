from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from steps.core.features.batches import Batches, CachedSource, RecomputedSource, open_batches
from steps.core.modalities.image.pixels import deterministic_view, normalise, read_image
from tests.core.toys import (
    AUGMENTATION,
    LABELS,
    MICRO_BATCH,
    PREPROCESSING,
    VIEWS,
    Pictures,
    batches,
    build,
    cached,
    uncached,
)

NAMES = ["test_efficientnet", "test_convnext", "vit_tiny_patch16_224"]


@dataclass(frozen=True)
class Listed:
    """A source whose values are the very rows and views that it was asked for."""

    start: int = 0

    def get(self, rows: list[int], views: list[int]) -> Tensor:
        return torch.tensor([rows, views]).T


def walk(samples: int, batch_size: int, views: int = 3, seed: int = 0) -> Batches:
    splits = ["train"] * samples + ["val"] * 5
    index = pd.DataFrame({"split": splits, "label": range(len(splits))})
    return Batches(Listed(), index, views, batch_size, seed)


@pytest.mark.parametrize("where", ["first", "middle", "top"])
@pytest.mark.parametrize("name", NAMES)
def test_the_cache_and_the_pixels_give_the_same_batches_bit_for_bit(
    pictures: Pictures, tmp_path: Path, name: str, where: str
) -> None:
    network = build(name)
    stages = len(network.stages)
    boundary = {"first": 1, "middle": stages // 2, "top": stages}[where]
    source = cached(pictures, network, boundary, tmp_path)
    one = batches(source, source.index)
    other = batches(uncached(pictures, network, boundary), pictures.index())
    for epoch in (1, 2):
        for a, b in zip(one.train(epoch), other.train(epoch), strict=True):
            assert torch.equal(a.x, b.x)
            assert torch.equal(a.y, b.y)
            assert a.x.dtype == b.x.dtype == torch.float32
    for a, b in zip(one.deterministic("val"), other.deterministic("val"), strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.y, b.y)


def test_the_cache_and_the_pixels_give_the_same_batches_also_with_two_threads(
    pictures: Pictures, tmp_path: Path
) -> None:
    torch.set_num_threads(2)
    try:
        network = build("test_efficientnet")
        source = cached(pictures, network, 3, tmp_path)
        x = uncached(pictures, network, 3).get([1, 4, 2, 20, 9], [0, 1, 2, 2, 0])
        assert torch.equal(source.get([1, 4, 2, 20, 9], [0, 1, 2, 2, 0]), x)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("name", ["test_efficientnet", "vit_tiny_patch16_224"])
def test_a_cache_in_half_precision_is_off_by_rounding_only(
    pictures: Pictures, tmp_path: Path, name: str
) -> None:
    network = build(name)
    source = cached(pictures, network, 2, tmp_path, dtype="float16")
    one = batches(source, source.index)
    other = batches(uncached(pictures, network, 2), pictures.index())
    for a, b in zip(one.train(1), other.train(1), strict=True):
        assert a.x.dtype == torch.float32
        assert ((a.x - b.x).abs() <= b.x.abs() * 2**-11 + 2**-25).all()
        assert not torch.equal(a.x, b.x)


def test_pixels_without_a_network_are_the_normalised_views(pictures: Pictures) -> None:
    source = RecomputedSource(
        pictures.index(), pictures.folder(), uncached(pictures, build("test_resnet"), 0).views
    )
    found = source.get([3, 20], [0, 0])
    images = [read_image(pictures.folder().read(pictures.table["path"][row])) for row in (3, 20)]
    wanted = normalise(
        torch.stack([deterministic_view(image, PREPROCESSING) for image in images]), PREPROCESSING
    )
    assert torch.equal(found, wanted)
    assert not torch.equal(source.get([3], [1]), found[:1])


@given(st.integers(2, 60), st.integers(2, 20), st.integers(0, 5), st.integers(1, 9))
def test_an_epoch_sees_every_sample_once_but_for_a_last_single_one(
    samples: int, batch_size: int, seed: int, epoch: int
) -> None:
    found = list(walk(samples, batch_size, seed=seed).train(epoch))
    rows = Counter(int(row) for batch in found for row in batch.x[:, 0])
    assert set(rows.values()) == {1}
    assert len(rows) == samples - (samples % batch_size == 1)
    assert all(1 < len(batch.y) <= batch_size for batch in found)
    assert all(torch.equal(batch.x[:, 0], batch.y) for batch in found)


@given(st.integers(2, 60), st.integers(2, 20))
def test_the_number_of_steps_is_the_number_of_batches(samples: int, batch_size: int) -> None:
    found = walk(samples, batch_size)
    assert found.steps() == len(list(found.train(1)))


def test_batches_of_one_are_either_counted_or_yielded_but_alike() -> None:
    found = walk(4, 1)
    assert found.steps() == len(list(found.train(1)))


def test_an_epoch_can_be_repeated_and_differs_from_the_next_and_from_another_seed() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return [pair for batch in walk(20, 6, seed=seed).train(epoch) for pair in batch.x.tolist()]

    assert order(0, 1) == order(0, 1)
    assert len({str(order(seed, epoch)) for seed in range(4) for epoch in range(4)}) == 16


def test_every_seeded_view_is_drawn_as_often_and_the_plain_one_never() -> None:
    found = walk(3000, 50)
    views = Counter(int(view) for batch in found.train(1) for view in batch.x[:, 1])
    assert set(views) == {1, 2, 3}
    assert all(abs(count / 3000 - 1 / 3) < 0.05 for count in views.values())


def test_without_seeded_views_training_sees_the_plain_one() -> None:
    assert {int(view) for batch in walk(9, 3, views=0).train(1) for view in batch.x[:, 1]} == {0}


def test_validation_is_walked_through_in_order_by_the_plain_view() -> None:
    found = [pair for batch in walk(4, 3).deterministic("val") for pair in batch.x.tolist()]
    assert found == [[row, 0] for row in range(4, 9)]


def test_the_order_does_not_depend_on_the_random_state_nor_change_it() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = [batch.y.tolist() for batch in walk(9, 3).train(1)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert [batch.y.tolist() for batch in walk(9, 3).train(1)] == first


@dataclass(frozen=True)
class Artifact:
    index_table: pd.DataFrame
    shards: dict[str, Path]
    meta: dict[str, Any]


@pytest.fixture
def artifact(pictures: Pictures, tmp_path: Path) -> Artifact:
    network = build("test_efficientnet")
    source = cached(pictures, network, 3, tmp_path)
    meta = {
        "stages": 6,
        "boundary": 3,
        "views": VIEWS,
        "seed": 0,
        "root": str(pictures.root),
        "modality": "image",
        "preprocessing": PREPROCESSING.to_dict(),
        "augmentation": AUGMENTATION.model_dump(),
        "micro_batch": MICRO_BATCH,
        "oversampling": None,
        "labels": LABELS,
    }
    return Artifact(source.index, source.shards, meta)


@pytest.mark.parametrize(("boundary", "kind"), [(6, "z"), (3, "h")])
def test_what_was_kept_is_read_from_the_cache(artifact: Artifact, boundary: int, kind: str) -> None:
    kept = replace(artifact, meta={**artifact.meta, "boundary": boundary})
    source = open_batches(kept, boundary, 5, 0, Path("unused")).source
    assert isinstance(source, CachedSource)
    assert (source.name, source.start) == (kind, boundary)


def test_every_boundary_that_can_be_opened_leads_to_the_same_logits(
    artifact: Artifact, tmp_path: Path
) -> None:
    network = build("test_efficientnet")
    found = []
    for boundary in (0, 3, 6):
        opened = open_batches(artifact, boundary, 5, 0, tmp_path)
        with torch.inference_mode():
            parts = [network(batch.x, opened.source.start) for batch in opened.train(1)]
        found.append(torch.cat(parts))
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[2], found[0], atol=1e-5, rtol=1e-5)


def test_a_boundary_that_was_not_kept_is_computed_from_pixels_all_the_way(artifact: Artifact) -> None:
    source = open_batches(artifact, 2, 5, 0, Path("unused")).source
    assert isinstance(source, RecomputedSource)
    assert source.start == 0
