import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from steps.core.backbones.network import Network
from steps.core.backbones.readout import Readout, deviation, pool
from steps.core.backbones.transformers_adapter import FAMILIES, load
from steps.core.system.errors import BackboneError
from tests.core.text_toys import write_encoder

ARTICLE = {
    "bert-base-uncased": {"model_type": "bert"},
    "distilbert-base-uncased": {"model_type": "distilbert"},
    "roberta-base": {"model_type": "roberta", "vocab_size": 50265, "max_position_embeddings": 514},
    "microsoft/MiniLM-L12-H384-uncased": {
        "model_type": "bert", "hidden_size": 384, "num_hidden_layers": 12, "intermediate_size": 1536
    },
    "dmis-lab/biobert-v1.1": {"model_type": "bert", "vocab_size": 28996},
    "nlpaueb/legal-bert-base-uncased": {"model_type": "bert"},
    "ProsusAI/finbert": {"model_type": "bert"},
    "allenai/scibert_scivocab_uncased": {"model_type": "bert", "vocab_size": 31090},
}  # fmt: skip


def numbers(vocabulary: int) -> torch.Tensor:
    found = torch.randint(5, vocabulary, (3, 32), generator=torch.Generator().manual_seed(0))
    found[1, 20:], found[2, 5:] = 0, 0
    return found


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_the_stages_one_after_the_other_are_the_library_s_model(kind: str, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path, kind)
    facts = json.loads((folder / "config.json").read_text())
    backbone = load("tiny", facts, str(folder / "model.safetensors"))
    assert len(backbone.stages) == 4
    x = numbers(facts["vocab_size"])
    network = Network.build(backbone, x[:1], 2)
    whole = AutoModel.from_pretrained(folder).eval()
    mask = (x != 0).long()
    with torch.inference_mode():
        wanted = whole(input_ids=x, attention_mask=mask).last_hidden_state
        found = network.run(x, 0, 4)
    assert torch.allclose(found[..., :-1], wanted * mask[..., None], atol=1e-5)
    assert torch.equal(found[..., -1], mask.float())


@pytest.mark.parametrize("name", sorted(ARTICLE))
def test_the_article_s_encoders_are_cut_into_embeddings_and_layers(name: str) -> None:
    with torch.device("meta"):
        stages = load(name, ARTICLE[name]).stages
    layers = ARTICLE[name].get("num_hidden_layers", 6 if name.startswith("distil") else 12)
    assert len(stages) == 1 + int(layers)  # type: ignore[call-overload]
    assert all(any(True for _ in stage.parameters()) for stage in stages)


def test_weights_keep_the_library_s_names(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path)
    facts = json.loads((folder / "config.json").read_text())
    network = Network.build(load("tiny", facts), numbers(40)[:1], 2)
    names = {name for name in network.state() if name.startswith("backbone.")}
    own = {
        f"backbone.{name}" for name in AutoModel.from_pretrained(folder).state_dict() if "pooler" not in name
    }
    assert names == own


def test_what_is_filled_up_changes_neither_mean_nor_deviation(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path)
    facts = json.loads((folder / "config.json").read_text())
    backbone = load("tiny", facts, str(folder / "model.safetensors"))
    short = numbers(facts["vocab_size"])[2:, :16]
    longer = torch.nn.functional.pad(short, (0, 32))
    network = Network.build(backbone, short, 2, Readout(0, 4, True))
    with torch.inference_mode():
        assert torch.allclose(network.embed(short), network.embed(longer), atol=1e-5)
        x = network.run(short, 0, 2)
    only = x[:, :5, :-1]
    assert torch.allclose(pool(x, "masked"), only.mean(dim=1), atol=1e-5)
    spread = deviation(x, "masked")
    assert spread is not None
    assert torch.allclose(spread, only.std(dim=1, correction=0), atol=1e-4)


def test_an_architecture_that_cannot_be_cut_is_refused_by_name() -> None:
    with pytest.raises(BackboneError, match=r"albert.*expected one of bert"):
        load("albert-base-v2", {"model_type": "albert"})


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path)
    facts = {**json.loads((folder / "config.json").read_text()), "num_hidden_layers": 5}
    with pytest.raises(BackboneError, match="tensors are missing"):
        load("tiny", facts, str(folder / "model.safetensors"))
    other = {**facts, "num_hidden_layers": 3, "intermediate_size": 64}
    with pytest.raises(BackboneError, match="of another shape"):
        load("tiny", other, str(folder / "model.safetensors"))
