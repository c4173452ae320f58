from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from steps.core.features import normalisation
from steps.core.features.embedding import SHARD
from steps.core.features.normalisation import PRETRAINED, compare_normalisations
from steps.core.modalities.image.moments import Moments, normalisations
from steps.core.modalities.image.pixels import Preprocessing, normalise
from tests.clone import BACKBONE, write_weights
from tests.core.toys import PREPROCESSING, Pictures, image_encoder

DATASET, IMAGE = "dataset", "image"
COUNT = 10_000
MEAN, STD = (0.3, 0.4, 0.5), (0.1, 0.2, 0.3)
MOMENTS = Moments(
    [round(COUNT * 255 * m) for m in MEAN],
    [round(COUNT * 255**2 * (m * m + s * s)) for m, s in zip(MEAN, STD, strict=True)],
    COUNT,
)
LOOKS = normalisations(PREPROCESSING, MOMENTS)


def test_every_view_is_normalised_by_itself_whatever_its_lighting() -> None:
    views = torch.randint(0, 120, (3, 3, 32, 32), dtype=torch.uint8)
    x = normalise(views, LOOKS[IMAGE])
    assert x.mean(dim=(2, 3)).abs().max() < 1e-5
    assert (x.std(dim=(2, 3), correction=0) - 1).abs().max() < 1e-5
    brighter = normalise(views * 2 + 10, LOOKS[IMAGE])
    assert torch.allclose(brighter, x, atol=1e-4)
    alone = normalise(views[1:2], LOOKS[IMAGE])
    assert torch.allclose(alone[0], x[1], atol=1e-6), "a view depends on nothing beside itself"


def test_a_view_without_contrast_becomes_zeros() -> None:
    assert not normalise(torch.full((1, 3, 32, 32), 77, dtype=torch.uint8), LOOKS[IMAGE]).any()


def test_the_three_ways_differ_in_statistics_alone() -> None:
    assert set(LOOKS) == {PRETRAINED, DATASET, IMAGE}
    assert LOOKS[DATASET].mean == pytest.approx(MEAN)
    assert LOOKS[DATASET].std == pytest.approx(STD, abs=1e-6)
    assert {
        replace(x, mean=PREPROCESSING.mean, std=PREPROCESSING.std, per_image=False) for x in LOOKS.values()
    } == {PREPROCESSING}
    assert Preprocessing.from_dict(LOOKS[IMAGE].to_dict()) == LOOKS[IMAGE]


def table(count: int = 300) -> pd.DataFrame:
    split = ["train" if n % 3 else "val" for n in range(count)]
    return pd.DataFrame({"label": [f"c{n % 2}" for n in range(count)], "split": split})


@pytest.mark.parametrize(
    ("noise", "choice"),
    [
        ({PRETRAINED: 3.0, DATASET: 3.0, IMAGE: 0.3}, IMAGE),
        ({PRETRAINED: 3.0, DATASET: 0.3, IMAGE: 3.0}, DATASET),
        ({PRETRAINED: 0.3, DATASET: 3.0, IMAGE: 3.0}, PRETRAINED),
        ({PRETRAINED: 1.0, DATASET: 1.0, IMAGE: 1.0}, PRETRAINED),
    ],
)
def test_another_way_wins_only_if_the_gain_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, noise: dict[str, float], choice: str
) -> None:
    rows = table()

    def embedded(*given: object) -> object:
        name = next(name for name, preprocessing in LOOKS.items() if preprocessing is given[2].preprocessing)
        draw = np.random.default_rng(1)
        signal = np.where(rows["label"].to_numpy() == "c0", 1.0, -1.0)[:, None]
        z = (signal + noise[name] * draw.normal(size=(len(rows), 4))).astype(np.float32)
        return z[given[1].index.to_numpy()]  # type: ignore[attr-defined]

    monkeypatch.setattr(normalisation, "embed", embedded)
    backbone = image_encoder(BACKBONE, Path("x"))
    found = compare_normalisations(LOOKS, rows, object(), backbone, 1000, 200, 0, tmp_path)  # type: ignore[arg-type]
    assert found["choice"] == choice
    assert set(found["ways"]) == set(LOOKS)
    assert found["ways"][PRETRAINED]["gain"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_the_trial_reads_real_pictures_and_is_the_same_every_time(pictures: Pictures, tmp_path: Path) -> None:
    write_weights(tmp_path / "w.safetensors")
    backbone = image_encoder(BACKBONE, tmp_path / "w.safetensors")
    rows = pictures.table[["path", "label", "split"]].assign(sha256=pictures.table["path"])
    once, again = (
        compare_normalisations(LOOKS, rows, pictures.folder(), backbone, 1000, 200, 0, tmp_path / str(n))
        for n in (1, 2)
    )
    assert once == again
    assert len({way["accuracy"]["value"] for way in once["ways"].values()}) >= 1


def test_the_pretrained_way_reads_what_the_audit_has_embedded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = pd.concat([table(), table().assign(split="test")], ignore_index=True)
    asked: dict[int, int] = {}

    def embedded(*given: object) -> object:
        asked[id(given[2].preprocessing)] = len(given[1])  # type: ignore[arg-type]
        return np.random.default_rng(0).normal(size=(len(given[1]), 2)).astype(np.float32)  # type: ignore[arg-type]

    monkeypatch.setattr(normalisation, "embed", embedded)
    backbone = image_encoder(BACKBONE, Path("x"))
    compare_normalisations(LOOKS, rows, object(), backbone, 300, 100, 0, tmp_path)  # type: ignore[arg-type]
    assert asked == {id(LOOKS[PRETRAINED]): 3 * SHARD, id(LOOKS[DATASET]): 300, id(LOOKS[IMAGE]): 300}


def test_without_validation_samples_nothing_is_tried(pictures: Pictures, tmp_path: Path) -> None:
    rows = pictures.table[pictures.table["split"] != "val"]
    backbone = image_encoder(BACKBONE, Path("none"))
    found = compare_normalisations(LOOKS, rows, pictures.folder(), backbone, 1000, 200, 0, tmp_path)
    assert found == {"choice": PRETRAINED, "ways": {}}
