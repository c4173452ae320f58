"""What training sees of an image: crops, flips, turns and changes of colour, each from a seed of its own."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from steps.core.modalities.image.pixels import (
    Preprocessing,
    deterministic_view,
    read_image,
    seeded_view,
    view_seed,
)
from steps.core.modalities.image.settings import Augmentation

NO_AUGMENTATION = Augmentation(
    crop_area=[1.0, 1.0], crop_aspect=[1.0, 1.0], horizontal_flip=0.0, vertical_flip=0.0, rotation=0.0,
    translation=0.0, brightness=0.0, contrast=0.0, saturation=0.0,
)  # fmt: skip
PLAIN_OVERSAMPLING = 4.0
MIRRORED_AXES = {"horizontal_flip": -1, "vertical_flip": -2}


@dataclass(frozen=True)
class Views:
    """The deterministic view and seeded ones; see `steps.core.modalities.parts.Views`."""

    preprocessing: Preprocessing
    ranges: Augmentation
    seed: int
    oversampling: float | None = None
    """Decoded pixels per pixel of the smallest crop's side, at least, where a JPEG can be decoded
    smaller than it is; None decodes every pixel."""

    @property
    def seeded(self) -> bool:
        """Whether anything is drawn."""
        return self.ranges != NO_AUGMENTATION

    def read(self, data: bytes) -> Tensor:
        """Decode an image for its views: uint8 (3, height, width)."""
        if self.oversampling is None:
            return read_image(data)
        crop = self.preprocessing.side / math.sqrt(self.ranges.crop_area[0] or 1.0)
        return read_image(data, math.ceil(self.oversampling * max(self.preprocessing.resize, crop)))

    def view(self, sample: Tensor, sha256: str, number: int) -> Tensor:
        """Return one view, uint8 (3, side, side); 0 is the deterministic one."""
        if number == 0:
            return deterministic_view(sample, self.preprocessing)
        return seeded_view(sample, self.preprocessing, self.ranges, view_seed(self.seed, sha256, number))

    def key(self, count: int) -> dict[str, Any]:
        """Return all that the deterministic view and `count` seeded ones depend on."""
        return {
            "preprocessing": self.preprocessing.to_dict(),
            "seed": self.seed if count else None,
            "ranges": self.ranges.model_dump() if count else None,
            "oversampling": self.oversampling,
            "crop_area": self.ranges.crop_area[0] if self.oversampling else None,
        }

    def describe(self) -> dict[str, Any]:
        """Return what a cache's metadata holds."""
        return {
            "preprocessing": self.preprocessing.to_dict(),
            "augmentation": self.ranges.model_dump(),
            "oversampling": self.oversampling,
            "seed": self.seed,
        }

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> "Views":
        """Undo `describe`."""
        preprocessing = Preprocessing.from_dict(meta["preprocessing"])
        return cls(preprocessing, Augmentation(**meta["augmentation"]), meta["seed"], meta["oversampling"])

    @classmethod
    def deterministic(cls, preprocessing: Preprocessing) -> "Views":
        """Return views of which only the deterministic one is used."""
        return cls(preprocessing, NO_AUGMENTATION, 0, PLAIN_OVERSAMPLING)


@dataclass(frozen=True)
class MirroredViews:
    """The deterministic view, mirrored; see `steps.core.modalities.contract.Modality.symmetric_views`."""

    preprocessing: Preprocessing
    symmetry: str
    """A key of MIRRORED_AXES."""

    @property
    def seeded(self) -> bool:
        """There is one view."""
        return False

    @property
    def plain(self) -> Views:
        """What is mirrored."""
        return Views.deterministic(self.preprocessing)

    def read(self, data: bytes) -> Tensor:
        """Decode an image for its views: uint8 (3, height, width)."""
        return self.plain.read(data)

    def view(self, sample: Tensor, sha256: str, number: int) -> Tensor:
        """Return the one view there is, uint8 (3, side, side)."""
        return self.plain.view(sample, sha256, 0).flip(MIRRORED_AXES[self.symmetry])

    def key(self, count: int) -> dict[str, Any]:
        """Return all that the view depends on."""
        return {**self.plain.key(0), "symmetry": self.symmetry}

    def describe(self) -> dict[str, Any]:
        """Return what the view depends on; nothing reads it again."""
        return self.key(0)
