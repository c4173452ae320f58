from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from steps.core.backbones.network import Network
from steps.core.evaluation.inference import MICRO_BATCH, Predictor, predict_bytes, predict_together
from steps.core.modalities.image.pixels import Preprocessing, deterministic_view, normalise, read_image
from steps.core.system.errors import DataError
from tests.core.toys import IMAGE, LABELS, PREPROCESSING, BrightestChannelModel, Pictures, build


def logits_of(
    network: Network, preprocessing: Preprocessing, pictures: Pictures, count: int = 99
) -> NDArray[np.float64]:
    files = pictures.folder()
    return predict_bytes(
        network, preprocessing, [files.read(path) for path in pictures.table["path"][:count]]
    )


def test_logits_are_those_of_the_plain_view_in_the_order_of_the_files(pictures: Pictures) -> None:
    network, paths = build("test_resnet"), list(pictures.table["path"])
    found = logits_of(network, PREPROCESSING, pictures)
    assert found.shape == (len(paths), 3)
    assert found.dtype == np.float64
    assert len(paths) > MICRO_BATCH
    for row in (0, 5, len(paths) - 1):
        view = deterministic_view(read_image(pictures.folder().read(paths[row])), PREPROCESSING)
        with torch.inference_mode():
            alone = network(normalise(view[None], PREPROCESSING))[0].numpy()
        np.testing.assert_allclose(found[row], alone, atol=1e-5)


def test_one_pass_tells_what_each_model_tells_alone_and_shows_the_images_to_whoever_wants(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = replace(PREPROCESSING, resize=40)
    predictors = {
        "one": Predictor(build("test_resnet"), PREPROCESSING),
        "other": Predictor(build("test_efficientnet"), near),
    }
    wanted = {name: logits_of(*predictor, pictures) for name, predictor in predictors.items()}
    decoded: list[int] = []
    monkeypatch.setattr(
        "steps.core.modalities.image.pixels.read_image",
        lambda data: decoded.append(len(data)) or read_image(data),
    )
    paths = list(pictures.table["path"])
    found, sizes = predict_together(
        predictors, pictures.folder(), paths, lambda image, views: (image.shape[1:], len(views))
    )
    assert len(decoded) == len(paths), "each file is decoded once, however many models there are"
    assert {name: np.array_equal(found[name], logits) for name, logits in wanted.items()} == {
        "one": True, "other": True,
    }  # fmt: skip
    assert sizes == [(read_image(pictures.folder().read(path)).shape[1:], 2) for path in paths]


def test_without_models_the_images_are_shown_all_the_same(pictures: Pictures) -> None:
    paths = list(pictures.table["path"])
    logits, said = predict_together(
        {}, pictures.folder(), paths, lambda image, views: len(views), decoder=PREPROCESSING
    )
    assert (logits, said) == ({}, [0] * len(paths))


def test_a_picture_is_described_by_its_view_and_its_size() -> None:
    flat, edge = torch.full((3, 8, 8), 255.0), torch.zeros(3, 8, 8)
    edge[:, :, 4:] = 255.0
    assert IMAGE.slice_facts(torch.zeros(3, 5, 7), flat) == {
        "brightness": 1.0,
        "sharpness": 0.0,
        "size": 35.0,
    }
    half = IMAGE.slice_facts(torch.zeros(3, 5, 7), edge)
    assert half["brightness"] == 0.5
    assert half["sharpness"] > 0


def test_prediction_is_in_eval_mode_and_changes_nothing(pictures: Pictures) -> None:
    network = build("test_efficientnet")
    wanted = logits_of(network, PREPROCESSING, pictures, 6)
    state = network.state()
    network.train()
    assert np.array_equal(logits_of(network, PREPROCESSING, pictures, 6), wanted)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state().items())


def test_a_classifier_that_can_see_is_right(pictures: Pictures) -> None:
    found = logits_of(BrightestChannelModel().network(), BrightestChannelModel().preprocessing, pictures)
    assert [LABELS[k] for k in found.argmax(axis=1)] == list(pictures.table["label"])


def test_no_images_give_no_rows() -> None:
    assert predict_bytes(build("test_resnet"), PREPROCESSING, []).shape == (0, 3)


def test_bytes_that_are_no_image_are_refused_and_not_replaced(pictures: Pictures) -> None:
    whole = pictures.folder().read(pictures.table["path"][0])
    for broken in (b"", b"no image", whole[: len(whole) // 2]):
        with pytest.raises(DataError):
            predict_bytes(build("test_resnet"), PREPROCESSING, [whole, broken])
