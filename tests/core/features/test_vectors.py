import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from steps.core.backbones.network import pool
from steps.core.features.vectors import linear_probe, pooled, probe_stages
from steps.core.report.search_page import render_search
from tests.core.strategy.test_search import SPACE, row
from tests.core.toys import Pictures, build, cached


@dataclass
class Planted:
    """A cache of random stage outputs, one of which is the label."""

    index_table: pd.DataFrame
    shards: dict[str, Path]
    meta: dict[str, Any] = field(default_factory=lambda: {"stages": 5})


def plant(folder: Path, stages: set[int], count: int = 300) -> Planted:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, count)
    index = pd.DataFrame({"label": labels, "split": np.where(np.arange(count) % 3, "train", "val")})
    index = index.assign(shard=np.where(np.arange(count) < 100, "a", "b"))
    index["row"] = index.groupby("shard").cumcount()
    shards = {}
    for shard, part in index.groupby("shard"):
        tensors = {
            f"stage{k}": torch.tensor(
                draw.normal(size=(len(part), 4)) + (3.0 * np.eye(4)[part["label"]] if k in stages else 0)
            ).half()
            for k in range(5)
        }
        shards[str(shard)] = folder / f"{shard}.safetensors"
        save_file(tensors, shards[str(shard)])
    return Planted(index, shards)


@pytest.mark.parametrize(("stages", "suggested"), [({2}, 2), ({4}, 0), ({1, 3}, 3), ({0}, 4)])
def test_the_probe_finds_the_stage_that_knows_the_label(
    tmp_path: Path, stages: set[int], suggested: int
) -> None:
    found = probe_stages(plant(tmp_path, stages), 1000, 200, 0)
    assert found["best_stage"] in stages
    assert found["suggested_unfreeze"] == suggested
    for number, stage in enumerate(found["stages"]):
        span = stage["accuracy"]
        assert span["low"] <= span["value"] <= span["high"]
        assert (span["value"] > 0.8) is (number in stages)
    assert found == probe_stages(plant(tmp_path, stages), 1000, 200, 0)


def test_a_probe_is_fitted_on_no_more_samples_than_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def counting(x: Any, y: Any, other: Any) -> Any:
        seen.append((len(x), len(y)))
        return linear_probe(x, y, other)

    monkeypatch.setattr("steps.core.features.vectors.linear_probe", counting)
    probe_stages(plant(tmp_path, {1}), 50, 100, 0)
    assert seen == [(50, 50)] * 5


def test_the_shards_hold_the_pooled_output_of_every_stage(pictures: Pictures, tmp_path: Path) -> None:
    network = build("test_resnet")
    source = cached(pictures, network, 0, tmp_path)
    cache = Planted(source.index, source.shards)
    plain = cached(pictures, network, 1, tmp_path)
    x = plain.get([0, 7], [0, 0])
    with torch.inference_mode():
        for number, stage in enumerate(network.stages):
            x = stage(x) if number else x
            found = pooled(cache, f"stage{number}", np.array([0, 7]))
            wanted = pool(x, network.channels_last).double().numpy()
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def summary(trials: list[dict[str, Any]]) -> dict[str, Any]:
    span = {"value": 0.5, "low": 0.4, "high": 0.6}
    return {
        "trials": len(trials),
        "pruned": 0,
        "finalists": [{**trials[0], "unfreeze": 2, "val_losses": [0.1, None], "val_loss": None}],
        "comparison": {"loss": span, "accuracy": span, "verdict": "better"},
        "soup": {"members": 1, "candidates": 1, "val_loss": 0.1, "winner_val_loss": 0.1, "kept": False},
        "probe": {
            "stages": [{"stage": k, "accuracy": span} for k in range(3)],
            "suggested_unfreeze": 1,
            "unfreeze": 2,
            "advice": "<b>",
        },
    }


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("ratio", [0.5, [0.5, 0.25]])
def test_the_page_needs_no_other_file_and_is_the_same_every_time(count: int, ratio: Any) -> None:
    trials = [
        row(0.1 + k, head_lr=1e-3 * (k + 1), ratio=ratio, study="discriminative", epochs=3)
        for k in range(count)
    ]
    trials.append(row(None, pruned=True, study="discriminative", ratio=ratio, epochs=0))
    trials.append(row(0.5, study="uniform", epochs=3))
    page = render_search(trials, summary(trials), SPACE, 0)
    assert page == render_search(trials, summary(trials), SPACE, 0)
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page)
    assert page.count('src="data:image/png') == (2 if count < 4 else 4)
    assert "&lt;b&gt;" in page
