import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, fx, nn

from steps.core.backbones.network import Network
from steps.core.backbones.readout import Readout
from steps.core.features.extraction import Sample, in_batches, prefix
from steps.core.modalities.image.pixels import deterministic_view, read_image, seeded_view, view_seed
from steps.core.modalities.image.views import Views
from steps.core.system.errors import DataError, HeadstartError
from tests.core.toys import (
    AUGMENTATION,
    MICRO_BATCH,
    NO_AUGMENTATION,
    PREPROCESSING,
    Pictures,
    build,
    draw_pictures,
    encode,
    extractor,
    image_network,
    picture,
    same_state,
    samples_of,
)

NAMES = ["test_efficientnet", "test_convnext", "vit_tiny_patch16_224"]


@pytest.fixture
def network() -> Network:
    return build("test_efficientnet")


@pytest.fixture
def own(tmp_path: Path) -> Pictures:
    """Pictures that a test may delete."""
    return draw_pictures(tmp_path / "own", {"train": 2})


def rows_of(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def test_a_shard_holds_the_plain_view_and_the_seeded_ones_of_every_sample(
    network: Network, own: Pictures, tmp_path: Path
) -> None:
    samples, top = samples_of(own.table), len(network.stages)
    found = {
        kind: rows_of(extractor(network, boundary, tmp_path).shard(own.folder(), samples, 2))[kind]
        for kind, boundary in (("h", 3), ("z", top))
    }
    assert found["z"].shape == (6, 3, network.head.in_features)
    assert found["h"].shape[:2] == (6, 3)
    for row, sample in enumerate(samples):
        image = read_image(own.folder().read(sample.path))
        views = [deterministic_view(image, PREPROCESSING)]
        views += [
            seeded_view(image, PREPROCESSING, AUGMENTATION, view_seed(0, sample.sha256, k)) for k in (1, 2)
        ]
        for view, pixels in enumerate(views):
            with torch.inference_mode():
                h = prefix(network, 3, pixels[None], PREPROCESSING, MICRO_BATCH)
                z = network.embed(h, 3)
            assert torch.equal(found["h"][row, view], h[0])
            assert torch.equal(found["z"][row, view], z[0])


def test_all_stages_are_kept_as_means_and_as_deviations_where_they_have_places(
    network: Network, own: Pictures, tmp_path: Path
) -> None:
    worker = extractor(network, None, tmp_path)
    found = worker.compute(own.folder(), samples_of(own.table), 0)
    views = [
        deterministic_view(read_image(own.folder().read(path)), PREPROCESSING) for path in own.table["path"]
    ]
    with torch.inference_mode():
        x = PREPROCESSING.batch(views, torch.device("cpu"))
        for number, stage in enumerate(network.stages):
            x = stage(x)
            if x.ndim < 4:
                assert f"deviation{number}" not in found
                torch.testing.assert_close(found[f"stage{number}"][:, 0], x, atol=1e-5, rtol=1e-4)
                continue
            flat = x.flatten(2)
            torch.testing.assert_close(found[f"stage{number}"][:, 0], flat.mean(2), atol=1e-5, rtol=1e-4)
            spread = flat.std(2, correction=0)
            torch.testing.assert_close(found[f"deviation{number}"][:, 0], spread, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("boundary", [2, None])
@pytest.mark.parametrize("name", NAMES)
def test_a_sample_s_rows_depend_neither_on_its_neighbours_nor_on_the_size_of_the_shard(
    name: str, boundary: int | None, own: Pictures, tmp_path: Path
) -> None:
    worker = extractor(build(name), boundary, tmp_path)
    samples = samples_of(own.table)
    whole = worker.compute(own.folder(), samples, 2)
    backwards = worker.compute(own.folder(), samples[::-1], 2)
    for row, sample in enumerate(samples):
        alone = worker.compute(own.folder(), [sample], 2)
        assert set(whole) == {"h"} if boundary == 2 else len(whole) > 2
        for kind in whole:
            assert torch.equal(whole[kind][row], alone[kind][0]), (kind, row)
            assert torch.equal(whole[kind][row], backwards[kind][-1 - row]), (kind, row)


def test_more_views_leave_the_first_ones_as_they_were(
    network: Network, own: Pictures, tmp_path: Path
) -> None:
    worker = extractor(network, 2, tmp_path)
    few, many = (worker.compute(own.folder(), samples_of(own.table), count) for count in (1, 3))
    assert torch.equal(few["h"], many["h"][:, :2])
    assert not torch.equal(many["h"][:, 2], many["h"][:, 3])


def test_what_is_kept_is_what_enters_at_the_boundary_and_nothing_else(
    network: Network, own: Pictures, tmp_path: Path
) -> None:
    samples = samples_of(own.table)
    kept = [extractor(network, b, tmp_path).compute(own.folder(), samples, 1) for b in (1, 5, 6)]
    assert [set(tensors) for tensors in kept] == [{"h"}, {"h"}, {"z"}]


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_rounds_and_does_no_more(name: str, own: Pictures, tmp_path: Path) -> None:
    samples = samples_of(own.table)
    half, full = (
        extractor(build(name), 2, tmp_path, dtype=dtype).compute(own.folder(), samples, 1)
        for dtype in ("float16", "float32")
    )
    for kind in ("h",):
        assert half[kind].dtype == torch.float16
        # half a unit in the last of 11 binary digits, or of the smallest subnormal number
        bound = full[kind].abs().double() * 2**-11 + 2**-25
        assert ((half[kind].double() - full[kind].double()).abs() <= bound).all()


def test_a_value_too_large_for_half_precision_is_refused(
    network: Network, own: Pictures, tmp_path: Path
) -> None:
    norms = [m for m in network.stages[1].modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        norms[-1].weight.mul_(1e7)
    with pytest.raises(HeadstartError, match="float32"):
        extractor(network, 2, tmp_path, dtype="float16").compute(own.folder(), samples_of(own.table), 0)


def test_a_shard_that_exists_is_not_computed_again(network: Network, own: Pictures, tmp_path: Path) -> None:
    worker, samples = extractor(network, 3, tmp_path), samples_of(own.table)
    path = worker.shard(own.folder(), samples, 1)
    before, changed = path.read_bytes(), path.stat().st_mtime_ns
    (own.root / samples[2].path).unlink()
    assert worker.shard(own.folder(), samples, 1) == path
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, changed)
    with pytest.raises(DataError, match=f"no such file: {samples[2].path}"):
        worker.shard(own.folder(), samples, 2)


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_a_truncated_shard_is_computed_again(
    network: Network, own: Pictures, tmp_path: Path, keep: int
) -> None:
    worker, samples = extractor(network, 3, tmp_path), samples_of(own.table)
    path = worker.shard(own.folder(), samples, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    assert worker.shard(own.folder(), samples, 1).read_bytes() == whole


def test_a_computation_that_fails_leaves_no_shard(network: Network, own: Pictures, tmp_path: Path) -> None:
    samples = samples_of(own.table)
    (own.root / samples[-1].path).write_bytes(b"broken")
    with pytest.raises(DataError):
        extractor(network, 3, tmp_path / "features").shard(own.folder(), samples, 1)
    assert not list((tmp_path / "features").glob("*"))


CHANGES: dict[str, dict[str, Any]] = {
    "weights": {"weights_sha256": "1" * 64},
    "seed": {"views": Views(PREPROCESSING, AUGMENTATION, 1)},
    "ranges": {"views": Views(PREPROCESSING, NO_AUGMENTATION, 0)},
    "look": {
        "views": Views(PREPROCESSING.from_dict({**PREPROCESSING.to_dict(), "resize": 37}), AUGMENTATION, 0)
    },
    "mean": {
        "views": Views(
            PREPROCESSING.from_dict({**PREPROCESSING.to_dict(), "mean": [0.5] * 3}), AUGMENTATION, 0
        )
    },
    "dtype": {"dtype": "float16"},
    "micro_batch": {"micro_batch": 5},
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_key_changes_with_everything_that_the_bytes_depend_on(
    network: Network, tmp_path: Path, name: str
) -> None:
    samples = [Sample("a.png", "aa"), Sample("b.png", "bb")]
    plain = extractor(network, 3, tmp_path).key(samples, 2)
    assert extractor(network, 3, tmp_path, **CHANGES[name]).key(samples, 2) != plain


def test_the_key_changes_with_the_architecture_where_all_weights_are_the_same(
    network: Network, tmp_path: Path
) -> None:
    looser, smoother = copy.deepcopy(network), copy.deepcopy(network)
    for module in looser.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps *= 10
    graph = smoother.stages[0].graph
    assert isinstance(graph, fx.GraphModule)
    (leaves,) = [node for node in graph.graph.nodes if node.op == "output"]
    with graph.graph.inserting_before(leaves):
        leaves.args = (graph.graph.call_function(torch.tanh, leaves.args),)
    graph.recompile()
    samples = [Sample("a.png", "aa")]
    keys = {extractor(one, 3, tmp_path).key(samples, 1) for one in (network, looser, smoother)}
    assert len(keys) == 3
    assert same_state(network.state(), smoother.state())
    assert extractor(copy.deepcopy(network), 3, tmp_path).key(samples, 1) in keys


def test_the_key_changes_with_boundary_views_and_samples_and_their_order(
    network: Network, tmp_path: Path
) -> None:
    a, b = Sample("a.png", "aa"), Sample("b.png", "bb")
    keys = {
        extractor(network, boundary, tmp_path).key(samples, count)
        for boundary in (2, 3, None)
        for count in (0, 1)
        for samples in ([a], [a, b], [b, a], [a, Sample("b.png", "cc")])
    }
    assert len(keys) == 24


def test_the_key_changes_with_what_the_head_reads_where_that_is_kept(tmp_path: Path) -> None:
    readouts = [None, Readout(4, 6, False), Readout(4, 6, True)]
    networks = [image_network("test_efficientnet", 3, 32, readout=readout) for readout in readouts]
    samples = [Sample("a.png", "aa")]
    assert len({extractor(one, 6, tmp_path).key(samples, 1) for one in networks}) == 3
    assert len({extractor(one, 3, tmp_path).key(samples, 1) for one in networks}) == 1
    other_head = image_network("test_efficientnet", 9, 32)
    assert extractor(other_head, 6, tmp_path).key(samples, 1) == extractor(networks[0], 6, tmp_path).key(
        samples, 1
    )


def test_the_key_does_not_depend_on_names_of_files_or_on_ranges_that_no_view_is_drawn_from(
    network: Network, tmp_path: Path
) -> None:
    key = extractor(network, 3, tmp_path).key([Sample("a.png", "aa")], 0)
    remote_samples = extractor(network, 3, tmp_path / "x", views=Views(PREPROCESSING, NO_AUGMENTATION, 7))
    assert remote_samples.key([Sample("moved/a.png", "aa")], 0) == key
    json.dumps(key)


def test_the_filling_of_a_short_batch_changes_nothing(network: Network, own: Pictures) -> None:
    images = [read_image(own.folder().read(path)) for path in own.table["path"]]
    pixels = torch.stack([deterministic_view(image, PREPROCESSING) for image in images])[:MICRO_BATCH]
    with torch.inference_mode():
        full = prefix(network, 3, pixels, PREPROCESSING, MICRO_BATCH)
        for count in range(1, MICRO_BATCH + 1):
            short = prefix(network, 3, pixels[:count], PREPROCESSING, MICRO_BATCH)
            assert short.shape == full.shape
            assert torch.equal(short[:count], full[:count])


@given(st.lists(st.integers()), st.integers(1, 10))
def test_batches_put_together_are_the_items_and_only_the_last_is_short(items: list[int], size: int) -> None:
    found = list(in_batches(items, size))
    assert [item for batch in found for item in batch] == items
    assert all(len(batch) == size for batch in found[:-1])
    assert all(found)


@pytest.mark.parametrize("first", [lambda v, i, s: v.view(i, s, 0), lambda v, i, s: v.preprocessing.view(i)])
def test_view_zero_is_the_plain_one(own: Pictures, first: Callable[[Views, Tensor, Sample], Tensor]) -> None:
    sample = samples_of(own.table)[0]
    image = read_image(own.folder().read(sample.path))
    assert torch.equal(
        first(Views(PREPROCESSING, AUGMENTATION, 0), image, sample), deterministic_view(image, PREPROCESSING)
    )


def photograph(width: int, height: int, kind: str = "JPEG") -> bytes:
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    pixels = np.clip(picture(0, height, width) + noise, 0, 255).astype(np.uint8)
    return encode(pixels, kind, **({"quality": 90} if kind == "JPEG" else {}))


@pytest.mark.parametrize(("kind", "least", "most"), [("JPEG", 1e-6, 0.5), ("PNG", 0.0, 0.0)])
def test_a_large_jpeg_is_decoded_smaller_and_its_views_hardly_change(
    kind: str, least: float, most: float
) -> None:
    data = photograph(2400, 1800, kind)
    sample = Sample("a", "0" * 64)
    whole, part = Views(PREPROCESSING, AUGMENTATION, 0), Views(PREPROCESSING, AUGMENTATION, 0, 4.0)
    assert part.read(data).shape[1:] == ((225, 300) if kind == "JPEG" else (1800, 2400))
    views = [
        torch.stack([v.view(v.read(data), sample.sha256, n) for n in range(4)]).float() for v in (whole, part)
    ]
    assert least <= float((views[0] - views[1]).abs().mean()) <= most


def test_an_image_that_is_not_many_times_the_view_is_decoded_whole() -> None:
    data = photograph(300, 200)
    assert torch.equal(
        Views(PREPROCESSING, AUGMENTATION, 0).read(data),
        Views(PREPROCESSING, AUGMENTATION, 0, 4.0).read(data),
    )
