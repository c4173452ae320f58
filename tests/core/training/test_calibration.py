from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from steps.core.backbones.readout import Readout
from steps.core.features.batches import Batches, CachedSource
from steps.core.tasks.metrics import SingleLabelPredictions, accuracy, ece
from steps.core.training.calibration import calibrate, model_metadata, seed_everything
from steps.core.training.loop import Trained, predict, train
from steps.core.training.objectives import Classify
from steps.core.training.parameter_groups import parameter_groups
from tests.core.toys import LABELS, PREPROCESSING, RECIPE, Pictures, batches, build, cached


@pytest.fixture(scope="module")
def trained(pictures: Pictures, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Batches]:
    network = build("test_efficientnet")
    source = cached(pictures, network, 6, tmp_path_factory.mktemp("features"))
    found = batches(source, source.index)
    network.freeze(6)
    groups = parameter_groups(network, 6, 1e-2, 1.0, 0.0)
    return train(network, 6, Classify(RECIPE), found, RECIPE, groups, lambda epoch: None), found


def test_the_figures_are_those_of_the_weights_that_are_kept(trained: tuple[Trained, Batches]) -> None:
    chosen, metrics = calibrate(*trained)
    logits, labels = (tensor.numpy() for tensor in predict(trained[0].network, trained[1], "val"))
    rows = np.arange(len(labels))
    outcome = SingleLabelPredictions(logits.astype(np.float64), labels, **chosen)
    assert metrics["val_accuracy"] == pytest.approx(accuracy(outcome, rows), abs=1e-6)
    assert metrics["val_ece"] == pytest.approx(ece(outcome, rows), abs=1e-6)
    assert metrics["val_loss"] == pytest.approx(trained[0].best.val_loss, abs=1e-6)
    assert metrics["best_epoch"] == trained[0].best.epoch
    raw = SingleLabelPredictions(logits.astype(np.float64), labels, 1.0)
    assert outcome.nll.mean() <= raw.nll.mean()


def relabelled(source: CachedSource, split: str) -> Batches:
    """Samples that have label sets; those of a split have others than they should."""
    sets = np.stack([np.eye(3, dtype=np.int64)[k] for k in source.index["label"]])
    sets[(source.index["split"] == split).to_numpy()] ^= 1
    index = source.index.assign(label=list(sets))
    return batches(replace(source, index=index), index)


def test_thresholds_and_temperature_hang_on_the_labels_of_validation_and_no_others(
    trained: tuple[Trained, Batches],
) -> None:
    source = trained[1].source
    assert isinstance(source, CachedSource)
    none, train_only, test_only, val = (
        calibrate(trained[0], relabelled(source, split)) for split in ("", "train", "test", "val")
    )
    assert none == train_only == test_only
    assert len(none[0]["thresholds"]) == 3
    assert val[0] != none[0]
    assert {"val_macro_auroc", "val_map", "val_macro_f1", "val_ece"} <= set(none[1])


def test_the_description_is_all_that_is_needed_to_predict() -> None:
    meta = {
        "backbone": "test_resnet",
        "labels": LABELS,
        "modality": "image",
        "preprocessing": PREPROCESSING.to_dict(),
        "weights_sha256": "ab",
        "root": "/home/somebody/data",
        "seed": 3,
    }
    assert model_metadata(meta, Readout(2, 4, True), {"temperature": 1.5}) == {
        "backbone": "test_resnet",
        "stages": 4,
        "readout": {"first": 2, "keep": 4, "deviations": True},
        "labels": LABELS,
        "modality": "image",
        "preprocessing": PREPROCESSING.to_dict(),
        "temperature": 1.5,
        "weights_sha256": "ab",
    }


@pytest.fixture
def undone() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("undone")
def test_seeding_makes_draws_repeatable_and_refuses_what_cannot_be() -> None:
    seed_everything(5)
    first = torch.rand(3)
    seed_everything(5)
    assert torch.equal(torch.rand(3), first)
    seed_everything(6)
    assert not torch.equal(torch.rand(3), first)
    assert torch.are_deterministic_algorithms_enabled()


def test_a_path_is_never_part_of_the_description(tmp_path: Path) -> None:
    meta = {
        "backbone": "b",
        "labels": [],
        "modality": "image",
        "preprocessing": {},
        "weights_sha256": "",
        "root": str(tmp_path),
    }
    assert str(tmp_path) not in str(model_metadata(meta, Readout.top(1), {"temperature": 1.0}))
