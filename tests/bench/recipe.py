"""The baseline of the bench: two-phase transfer learning as tutorials write it, with nothing cached.

Phase 1 trains the head while the whole backbone runs forward on every batch; phase 2 trains the last
stage groups and the head. RandomResizedCrop, flips, colour jitter, batches of 64, two loader workers,
a validation pass after each epoch, AdamW with one-cycle rates. The backbone, its weights and the size
of its input are the ones the pipeline uses, so that the two differ in method alone.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from steps.core.backbones import timm_adapter

BATCH, WORKERS, DROPOUT, SMOOTHING = 64, 2, 0.35, 0.1
HEAD_ONLY_LR, HEAD_LR, STAGE_LRS = 1e-3, 3e-4, (5e-5, 1e-4)


class Model(nn.Module):
    """A backbone and a classifier with dropout."""

    def __init__(self, name: str, weights: Path, classes: int) -> None:
        super().__init__()
        self.features = timm_adapter.create(name, None, str(weights))
        self.classifier = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(self.features.num_features, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, side, side) to logits (n, classes)."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


def loaders(data: Path, side: int, name: str, flips: bool) -> tuple[DataLoader, DataLoader, DataLoader]:
    """Return the batches of train, val and test; `data` holds a folder per split, then per class."""
    pretrained = timm.get_pretrained_cfg(name)
    finish = [transforms.ToTensor(), transforms.Normalize(pretrained.mean, pretrained.std)]
    turned = [transforms.RandomHorizontalFlip(), transforms.RandomVerticalFlip()]
    lively = transforms.Compose(
        [
            transforms.RandomResizedCrop(side, scale=(0.7, 1.0)),
            *(turned if flips else []),
            transforms.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.1),
            *finish,
        ]
    )
    plain = transforms.Compose(
        [transforms.Resize(round(side * 256 / 224)), transforms.CenterCrop(side), *finish]
    )
    train, val, test = (
        DataLoader(
            datasets.ImageFolder(str(data / split), view), BATCH, shuffle=shuffled, num_workers=WORKERS
        )
        for split, view, shuffled in (("train", lively, True), ("val", plain, False), ("test", plain, False))
    )
    return train, val, test


@dataclass
class Recipe:
    """The two phases, an epoch at a time, each with its seconds."""

    model: Model
    train: DataLoader
    val: DataLoader
    groups: int
    """Stage groups that phase 2 trains beside the head."""
    accuracy: float = field(default=0.0, init=False)

    def head_only(self, epochs: int) -> Iterator[float]:
        """Phase 1: yield the seconds of each epoch, validation included."""
        self.model.requires_grad_(False)
        self.model.classifier.requires_grad_(True)
        return self.epochs([{"params": self.model.classifier.parameters(), "lr": HEAD_ONLY_LR}], epochs)

    def fine_tune(self, epochs: int, head_lr: float = HEAD_LR) -> Iterator[float]:
        """Phase 2: yield the seconds of each epoch, validation included."""
        self.model.requires_grad_(False)
        number = timm_adapter.number_parameters(self.model.features)
        first = max(number.values()) + 1 - self.groups
        groups = []
        for offset, lr in zip(range(self.groups), STAGE_LRS[-self.groups :], strict=True):
            names = [name for name, stage in number.items() if stage == first + offset]
            groups.append({"params": [self.model.features.get_parameter(n) for n in names], "lr": lr})
        groups.append({"params": list(self.model.classifier.parameters()), "lr": head_lr})
        for group in groups:
            for parameter in group["params"]:
                parameter.requires_grad = True
        return self.epochs(groups, epochs)

    def epochs(self, groups: list[dict[str, object]], epochs: int) -> Iterator[float]:
        """Train."""
        optimizer = torch.optim.AdamW(groups, weight_decay=1e-2)
        peaks = [group["lr"] for group in optimizer.param_groups]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, len(self.train) * epochs)
        criterion = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
        for _ in range(epochs):
            begun = time.perf_counter()
            self.model.train()
            for x, y in self.train:
                loss = criterion(self.model(x), y)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            self.accuracy = float(self.correct(self.val).float().mean())
            yield time.perf_counter() - begun

    @torch.no_grad()
    def correct(self, batches: DataLoader) -> Tensor:
        """Return whether each image is answered rightly, in the order of the files."""
        self.model.eval()
        return torch.cat([self.model(x).argmax(dim=1) == y for x, y in batches])


@dataclass(frozen=True)
class RecipeResult:
    """What both phases came to."""

    heads: list[float]
    """Seconds of each epoch of phase 1."""
    tunes: list[float]
    """Seconds of each epoch of phase 2."""
    answers: dict[str, bool]
    """Whether a test image, by its file's name, is answered rightly."""
    seconds: float
    """Of both phases."""


def run_recipe(
    data: Path, side: int, name: str, flips: bool, weights: Path, epochs: tuple[int, int], groups: int
) -> RecipeResult:
    """Run both phases on `data`, a folder per split, in a process that has done nothing else."""
    torch.manual_seed(0)
    begun = time.perf_counter()
    train, val, test = loaders(data, side, name, flips)
    recipe = Recipe(Model(name, weights, len(train.dataset.classes)), train, val, groups)
    heads = list(recipe.head_only(epochs[0]))
    tunes = list(recipe.fine_tune(epochs[1]))
    seconds = time.perf_counter() - begun
    files = [Path(path).name for path, _ in test.dataset.samples]
    return RecipeResult(heads, tunes, dict(zip(files, recipe.correct(test).tolist(), strict=True)), seconds)


if __name__ == "__main__":
    data, side, name, flips, weights, epochs, groups = json.loads(sys.argv[1])
    print(json.dumps(asdict(run_recipe(Path(data), side, name, flips, Path(weights), epochs, groups))))
