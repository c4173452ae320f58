"""Labels for a folder: what the model answers, bad files aside, and nothing done twice after a kill."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from steps.core.evaluation.inference import predict_bytes
from steps.core.export.batch import DeployedModel, as_answers, list_unlabelled, predict_samples
from steps.core.modalities.image import modality as image
from steps.core.report.contact_sheet import contact_sheet
from steps.core.system.errors import DataError
from steps.core.system.progress import Advance, shown_by
from tests.core.toys import LABELS, PREPROCESSING, build, encode, exported, picture

META = {
    "labels": LABELS,
    "temperature": 1.7,
    "modality": "image",
    "preprocessing": PREPROCESSING.to_dict(),
}


@pytest.fixture(scope="module")
def model() -> DeployedModel:
    return DeployedModel(exported(META["temperature"]), META, part_samples=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eleven samples, at two depths, and one file that is none."""
    place = tmp_path / "in"
    for number in range(11):
        path = place / f"{'deep/' * (number % 2)}{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture(number, 40 + number)))
    (place / "05b.jpg").write_bytes(b"no such thing")
    (place / "notes.txt").write_text("no sample")
    return place


def test_the_answers_are_those_of_the_model_and_a_bad_file_is_named(
    model: DeployedModel, folder: Path, tmp_path: Path
) -> None:
    root, paths, stamps = list_unlabelled(str(folder), tmp_path, image)
    assert len(paths) == len(stamps) == 12
    found = predict_samples(model, root, paths, stamps, tmp_path)
    assert list(found["path"]) == paths
    bad = found[found["error"].notna()]
    assert list(bad["path"]) == ["05b.jpg"]
    answers = as_answers(model, found, abstain_below=0.5)
    good = [path for path in paths if path != "05b.jpg"]
    assert list(answers["path"]) == good
    logits = predict_bytes(build("test_resnet"), PREPROCESSING, [(folder / p).read_bytes() for p in good])
    assert list(answers["label"]) == [LABELS[n] for n in logits.argmax(axis=1)]
    scaled = np.exp(logits / META["temperature"])
    shares = answers[[f"p {name}" for name in LABELS]].to_numpy()
    np.testing.assert_allclose(shares, scaled / scaled.sum(axis=1, keepdims=True), atol=1e-4)
    np.testing.assert_allclose(answers["confidence"], shares.max(axis=1))
    assert list(answers["abstained"]) == list(answers["confidence"] < 0.5)


def test_after_a_kill_finished_parts_are_not_answered_again(
    model: DeployedModel, folder: Path, tmp_path: Path
) -> None:
    root, paths, stamps = list_unlabelled(str(folder), tmp_path, image)
    whole = predict_samples(model, root, paths, stamps, tmp_path / "elsewhere")

    class Killer:
        @contextmanager
        def work(self, what: str, total: int, unit: str, done: int) -> Iterator[Advance]:
            def advance(count: int) -> None:
                raise KeyboardInterrupt

            yield advance

    with pytest.raises(KeyboardInterrupt), shown_by(Killer()):
        predict_samples(model, root, paths, stamps, tmp_path)
    for path in paths[: model.part_samples]:
        (folder / path).unlink()  # what is done needs them no more
    again = predict_samples(model, root, paths, stamps, tmp_path)
    pd.testing.assert_frame_equal(again, whole)


def test_a_table_of_paths_is_read_in_its_order_and_a_changed_file_is_answered_anew(
    model: DeployedModel, folder: Path, tmp_path: Path
) -> None:
    table = folder / "wanted.csv"
    table.write_text("path,price\ndeep/01.png,3\n00.png,4\n")
    root, paths, before = list_unlabelled(str(table), tmp_path, image)
    assert (root, paths) == (str(folder), ["deep/01.png", "00.png"])
    assert list(predict_samples(model, root, paths, before, tmp_path)["error"]) == [None, None]
    _, _, stamps = list_unlabelled(str(folder), tmp_path, image)
    (folder / "00.png").write_bytes(encode(picture(99, 70)))
    assert list_unlabelled(str(folder), tmp_path, image)[2] != stamps


@pytest.mark.parametrize(
    ("name", "text"), [("empty", None), ("t.csv", "price\n3\n"), ("u.csv", "path\n\n,\n")]
)
def test_what_holds_no_samples_is_refused(tmp_path: Path, name: str, text: str | None) -> None:
    place = tmp_path / name
    place.mkdir() if text is None else place.write_text(text)
    with pytest.raises(DataError, match=r"expected|without a path"):
        list_unlabelled(str(place), tmp_path, image)


def test_label_sets_are_answered_by_their_thresholds(model: DeployedModel) -> None:
    sets = DeployedModel(model.file, {**META, "thresholds": [0.5, 0.5, 0.9]}, 4)
    logits = [np.array([2.0, -2.0, 2.0], np.float32), np.array([-9.0, -9.0, -9.0], np.float32)]
    found = pd.DataFrame({"path": ["a", "b"], "error": [None, None], "logits": logits})
    answers = as_answers(sets, found, abstain_below=0.6)
    assert list(answers["label"]) == ["blue", ""]
    assert list(answers["abstained"]) == [True, False]


def test_the_page_shows_the_least_sure_first_and_escapes_what_comes_from_the_data() -> None:
    answers = pd.DataFrame(
        {
            "path": ["sure", "<b>unsure"],
            "label": ["blue", "red"],
            "confidence": [0.9, 0.4],
            "abstained": [False, True],
            **{f"p {name}": [0.9, 0.4] for name in LABELS},
        }
    )
    facts = {"model": "m", "data": "d", "samples": 2, "abstained": 1, "drift": "As before.",
             "skipped": [{"path": "x.png", "error": "broken"}]}  # fmt: skip
    page = contact_sheet(answers, LABELS, lambda path: f"<i>{len(path)}</i>", 2, facts)
    assert page.index("&lt;b&gt;unsure") < page.index("<small>sure")
    assert "x.png" in page
    assert "<b>unsure" not in page
    assert contact_sheet(answers, LABELS, str, 1, facts).count("<figure>") == 1


def test_a_table_s_paths_are_found_as_in_training(tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / f"new/id{n}.png").write_bytes(b"x")
    (tmp_path / "new.csv").write_text("image_id;note\n" + "".join(f"id{n};x\n" for n in range(4)))
    root, paths, _ = list_unlabelled(str(tmp_path / "new.csv"), tmp_path / "cache", image)
    assert (root, paths) == (str(tmp_path), [f"new/id{n}.png" for n in range(4)])
