import numpy as np
import pytest
import torch

from steps.core.errors import DataError
from steps.core.images import normalise, plain_view, read_image
from steps.core.predict import MICRO_BATCH, predict_bytes, predict_paths

from .toys import LABELS, LOOK, Pictures, Seer, build


def test_logits_are_those_of_the_plain_view_in_the_order_of_the_files(pictures: Pictures) -> None:
    network, paths = build("test_resnet"), list(pictures.table["path"])
    found = predict_paths(network, LOOK, pictures.folder(), paths)
    assert found.shape == (len(paths), 3)
    assert found.dtype == np.float64
    assert len(paths) > MICRO_BATCH
    for row in (0, 5, len(paths) - 1):
        view = plain_view(read_image(pictures.folder().read(paths[row])), LOOK)
        with torch.inference_mode():
            alone = network(normalise(view[None], LOOK))[0].numpy()
        np.testing.assert_allclose(found[row], alone, atol=1e-5)


def test_prediction_is_in_eval_mode_and_changes_nothing(pictures: Pictures) -> None:
    network, paths = build("test_efficientnet"), list(pictures.table["path"])[:6]
    wanted = predict_paths(network, LOOK, pictures.folder(), paths)
    state = network.state()
    network.train()
    assert np.array_equal(predict_paths(network, LOOK, pictures.folder(), paths), wanted)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state().items())


def test_a_classifier_that_can_see_is_right(pictures: Pictures) -> None:
    paths = list(pictures.table["path"])
    found = predict_paths(Seer().network(), Seer().look, pictures.folder(), paths)
    assert [LABELS[k] for k in found.argmax(axis=1)] == list(pictures.table["label"])


def test_no_images_give_no_rows() -> None:
    assert predict_bytes(build("test_resnet"), LOOK, []).shape == (0, 3)


def test_bytes_that_are_no_image_are_refused_and_not_replaced(pictures: Pictures) -> None:
    whole = pictures.folder().read(pictures.table["path"][0])
    for broken in (b"", b"no image", whole[: len(whole) // 2]):
        with pytest.raises(DataError):
            predict_bytes(build("test_resnet"), LOOK, [whole, broken])
