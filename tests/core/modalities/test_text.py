import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from steps.core.backbones.network import Network
from steps.core.data.files import Folder
from steps.core.modalities.registry import Known, modality
from steps.core.modalities.text import scan as scanning
from steps.core.modalities.text.pretrained import automatic_length, find_weights
from steps.core.modalities.text.settings import Settings
from steps.core.modalities.text.tokens import Preprocessing, Views, read_text
from steps.core.system.errors import BackboneError, DataError
from tests.core.text_toys import sentences, write_encoder

TEXT = modality("text")
SETTINGS = Settings(
    max_length="auto", max_auto_length=64, token_dropout=0.2, max_characters=10_000, min_words=2
)
SENTENCE = "The pump 17 leaks badly since monday."


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_encoder(tmp_path_factory.mktemp("encoder"))
    return find_weights("tiny", str(folder), tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def preprocessing(weights: Path) -> Preprocessing:
    table = pd.DataFrame({"length": [len(text) for text, _ in sentences(50)]})
    found: Preprocessing = TEXT.pretrained("tiny", SETTINGS, table, weights)  # type: ignore[assignment]
    return found


def texts_on_disk(folder: Path, texts: list[str]) -> tuple[Folder, pd.DataFrame]:
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number:03d}.txt").write_text(text, encoding="utf-8")
    paths = [f"{number:03d}.txt" for number in range(len(texts))]
    table = pd.DataFrame(
        {"path": paths, "error": None, "label": "a", "length": [len(text) for text in texts]}
    )
    return Folder(str(folder), folder), table


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"plain words", "plain words"),
        ("\ufeffwith a mark".encode(), "with a mark"),
        (json.dumps({"text": "a cell"}).encode(), "a cell"),
        (json.dumps({"review": "ä cell"}).encode(), "ä cell"),
        (b'{"a": 1, "b": 2}', '{"a": 1, "b": 2}'),
        (b"{no json", "{no json"),
    ],
)
def test_a_text_is_read_from_a_file_or_a_row(data: bytes, wanted: str) -> None:
    assert read_text(data) == wanted


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"   \n", "empty"),
        (b"a\x00b", "zero character"),
        (b'{"text": null}', "empty"),
        (b'{"text": "  "}', "empty"),
    ],
)
def test_what_is_no_text_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read_text(data)


def test_the_metadata_give_the_same_preprocessing_again(preprocessing: Preprocessing) -> None:
    again = TEXT.preprocessing(json.loads(json.dumps(preprocessing.to_dict())))
    assert again == preprocessing
    assert torch.equal(again.view(SENTENCE), preprocessing.view(SENTENCE))


def test_a_view_is_the_library_s_own_numbers_filled_up_to_sixteen(
    preprocessing: Preprocessing, tmp_path: Path
) -> None:
    from transformers import PreTrainedTokenizerFast

    folder = write_encoder(tmp_path)
    own = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    wanted = own(SENTENCE)["input_ids"]
    view = preprocessing.view(SENTENCE)
    assert view[: len(wanted)].tolist() == wanted
    assert len(view) % 16 == 0
    assert len(view) - len(wanted) < 16
    assert set(view[len(wanted) :].tolist()) <= {0}


def test_a_long_text_is_cut_and_keeps_its_end_mark(preprocessing: Preprocessing) -> None:
    view = preprocessing.view("pump " * 500)
    assert len(view) == preprocessing.max_length
    assert view[-1] == preprocessing.view("pump")[2]


def test_a_seeded_view_masks_tokens_and_depends_on_its_seed_alone(preprocessing: Preprocessing) -> None:
    views = Views(preprocessing, 0.5, 3)
    plain = views.view(SENTENCE, "ab", 0)
    seen = [views.view(SENTENCE, "ab", number) for number in (1, 2, 1)]
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])
    changed = seen[0] != plain
    assert changed.any()
    assert set(seen[0][changed].tolist()) == {preprocessing.mask}
    assert not changed[0]
    assert not Views(preprocessing, 0.0, 3).seeded


def test_the_length_follows_from_the_texts() -> None:
    assert automatic_length(np.full(100, 40.0), 128) == 16
    assert automatic_length(np.full(100, 200.0), 128) == 64
    assert automatic_length(np.full(100, 9_000.0), 128) == 128
    assert automatic_length(np.array([10.0] * 995 + [9_000.0] * 5), 128) == 16, "one text in 200 is cut"


def test_near_copies_are_found_and_nothing_else(tmp_path: Path) -> None:
    texts = [text for text, _ in sentences(60)]
    copies = [texts[0].upper(), texts[1].replace(".", " !"), "  " + texts[2]]
    source, table = texts_on_disk(tmp_path / "data", [*texts, *copies])
    scan = scanning.scan_texts(source, table, len(table))
    pairs, alike = scanning.near_copies(scan, np.arange(63), 0.95, 0.1)
    assert pairs.tolist() == [[0, 60], [1, 61], [2, 62]]
    assert alike.tolist() == [1.0, 1.0, 1.0]
    assert scanning.variants(scan, np.array([[0, 60], [0, 1]])).tolist() == [False, True]
    prints = TEXT.prints(source, list(table["path"]))
    assert TEXT.print_copies(prints[:60], prints[60:], 0.95, 0.1).tolist() == [0, 1, 2]
    assert TEXT.print_copies(prints[3:30], prints[60:], 0.95, 0.1).tolist() == []


def test_odd_texts_are_named(tmp_path: Path) -> None:
    texts = [text for text, _ in sentences(30)]
    texts += [
        "Word",
        "write to someone@example.org please",
        "card 4111 1111 1111 1111 was used",
        "lost \ufffd letters",
    ]
    source, table = texts_on_disk(tmp_path / "data", texts)
    findings = {row["check"]: row for row in TEXT.check(table, TEXT.scan(source, table, 0), SETTINGS)}
    assert findings["texts have words"]["files"] == ["030.txt"]
    assert findings["no text holds an address or a card number"]["files"] == ["031.txt", "032.txt"]
    assert findings["texts were decoded as they were written"]["files"] == ["033.txt"]
    assert findings["texts do not begin alike"]["verdict"] == "pass"
    assert findings["texts are read to their end"]["verdict"] == "pass"


def test_headings_and_texts_that_are_cut_are_named(tmp_path: Path) -> None:
    texts = [f"Dear customer service team of the works, case {n} is {'long ' * 200}" for n in range(12)]
    source, table = texts_on_disk(tmp_path / "data", texts)
    findings = {row["check"]: row for row in TEXT.check(table, TEXT.scan(source, table, 0), SETTINGS)}
    assert findings["texts do not begin alike"]["affected"] == 12
    assert findings["texts are read to their end"]["affected"] == 12
    assert "24%" in findings["texts are read to their end"]["impact"]


def test_a_text_beyond_the_limit_is_refused_unread() -> None:
    table = pd.DataFrame({"length": [10, 20_000]})
    first, second = TEXT.refuse(table, SETTINGS)
    assert first is None
    assert "max_characters" in str(second)


def test_every_corruption_changes_a_view_and_is_repeatable(preprocessing: Preprocessing) -> None:
    view = preprocessing.view("this motor 12 is broken again, since monday.")
    for name, (change, strengths) in TEXT.corruptions(preprocessing).items():
        found = [change(view, strengths[-1], torch.Generator().manual_seed(1)) for _ in range(2)]
        assert torch.equal(*found), name
        if name != "capitals":  # the tokenizer does not tell them apart
            assert not torch.equal(found[0], view), name


def test_an_answer_s_words_are_shown_and_html_is_escaped(preprocessing: Preprocessing, weights: Path) -> None:
    backbone = TEXT.load_backbone("tiny", preprocessing, str(weights))
    network = Network.build(backbone, preprocessing.example()[None], 3)
    torch.nn.init.normal_(network.head.weight)
    text = "<b>pump</b> 17 leaks"
    view = preprocessing.view(text)
    heat = TEXT.attribute(network, preprocessing, view)
    assert heat.shape == view.shape
    assert heat.max() == 1
    assert (heat[view == 0] == 0).all()
    page = TEXT.show_attribution(text.encode(), preprocessing, heat)
    assert "<b>" not in page
    assert "rgba(" in page
    assert "&lt;b&gt;" in TEXT.show(text.encode())


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        (["text", "label"], ["text"]),
        (["id", "Review", "label"], ["Review"]),
        (["sentence", "content"], ["sentence"]),
        (["path", "label"], []),
    ],
)
def test_a_column_of_texts_is_known_by_its_name(columns: list[str], wanted: list[str]) -> None:
    assert TEXT.columns_of(pd.DataFrame(columns=columns)) == wanted


def test_a_note_beside_images_does_not_make_them_texts() -> None:
    assert ".png" in Known().endings_of(["a/1.png", "a/2.png", "readme.txt"])
    assert Known().endings_of(["a/1.txt", "a/2.txt", "a/plot.png"]) == (".txt",)


def test_weights_travel_with_config_and_tokenizer(weights: Path, tmp_path: Path) -> None:
    assert find_weights("tiny", str(weights), tmp_path) == weights
    with pytest.raises(BackboneError, match=r"has no model\.safetensors"):
        find_weights("tiny", str(tmp_path), tmp_path)
    with pytest.raises(BackboneError, match="packaged are"):
        find_weights("bert-base-uncased", "packaged", tmp_path)


def test_a_request_is_a_text() -> None:
    assert read_text(TEXT.from_request(SENTENCE)) == SENTENCE
    odd: list[Any] = [1, None, ["a"], {"a": 1}]
    for value in odd:
        with pytest.raises(DataError):
            TEXT.from_request(value)
