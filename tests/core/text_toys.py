"""A tiny encoder in the library's own layout on disk, and sentences from a grammar; nothing is downloaded."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SUBJECTS = ("the pump", "a valve", "this motor", "the old belt", "our new fan", "that bearing")
COMPLAINTS = (
    "leaks badly",
    "is broken again",
    "makes an awful noise",
    "failed after a day",
    "burns and smells",
)
PRAISES = ("runs quietly", "works very well", "is a great help", "saved us a week", "looks and feels solid")
QUESTIONS = ("where can it be ordered", "how long does it last", "what does it weigh", "when is it serviced")
ENDS = ("", " since monday", " in the second hall", " after the repair", ", they say")
CLASSES = {"complaint": COMPLAINTS, "praise": PRAISES, "question": QUESTIONS}
MARKS = {"complaint": "!", "praise": ".", "question": "?"}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return sentences with their class, no two the same."""
    generator = np.random.default_rng(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        name = list(CLASSES)[len(found) % len(CLASSES)]
        parts = [generator.choice(words) for words in (SUBJECTS, CLASSES[name], ENDS)]
        number = int(generator.integers(1000))
        found.setdefault(f"{parts[0]} {number} {parts[1]}{parts[2]}".capitalize() + ".", name)
    return list(found.items())


def write_sentences(path: Path, count: int = 150) -> None:
    """Write a table with columns text and label."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(sentences(count))


def make_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Return a tokenizer of BERT's kind, whose vocabulary is the words and the letters of some texts."""
    words = sorted({word for text in texts for word in text.lower().replace(".", " . ").split()})
    letters = sorted({letter for word in words for letter in word})
    vocabulary = dict.fromkeys([*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *words, ",", "?"])
    numbers = {token: number for number, token in enumerate(vocabulary)}
    found = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))  # type: ignore[call-arg]
    found.normalizer = normalizers.BertNormalizer()
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])]
    )
    found.add_special_tokens(list(SPECIAL))
    return found


def write_encoder(folder: Path, kind: str = "bert", layers: int = 3) -> Path:
    """Save a random encoder of one of the library's architectures with its tokenizer; return the folder."""
    from transformers import AutoConfig, AutoModel

    tokenizer = make_tokenizer([text for text, _ in sentences(300)])
    size = {
        "vocab_size": tokenizer.get_vocab_size(), "hidden_size": 32, "intermediate_size": 48, "dim": 32,
        "hidden_dim": 48, "num_hidden_layers": layers, "n_layers": layers, "num_attention_heads": 4,
        "n_heads": 4, "max_position_embeddings": 80, "pad_token_id": 0,
    }  # fmt: skip
    known = AutoConfig.for_model(kind).to_dict()
    config = AutoConfig.for_model(kind, **{key: value for key, value in size.items() if key in known})
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    for name, parameter in model.named_parameters():
        if (
            parameter.ndim > 1
        ):  # words are told apart, and layers change them little: the mean of words tells classes
            torch.nn.init.normal_(parameter, std=0.5 if "embeddings" in name else 0.05)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert json.loads((folder / "config.json").read_text())["model_type"] == kind
    return folder
