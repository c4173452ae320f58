"""A linear head that is solved to its optimum, in the form of a training of one epoch."""

import hashlib

import numpy as np
import torch

from steps.core.backbones.network import Network
from steps.core.backbones.processes import assert_equal_everywhere, on_device
from steps.core.features.batches import Batches
from steps.core.features.linear_head import Floats, LinearHead, fit_head, groups_of
from steps.core.features.settings import HeadSettings
from steps.core.tasks import targets
from steps.core.training.loop import Epoch, Trained, validation_figures
from steps.core.training.objectives import weights_of_classes


def train_head(
    network: Network, vectors: Floats, batches: Batches, cfg: HeadSettings, seed: int
) -> tuple[Trained, LinearHead]:
    """Fit the network's head on the train split in place; every process comes to the same.

    Args:
        network: Its stages stay as they are.
        vectors: Shape (rows of the index, features): what the head reads, of the deterministic views.
        batches: For labels and splits.
        cfg: How scaling and penalty are chosen, by cross-validation on train.
        seed: Of the folds.

    Returns:
        The trained network, with a curve of one epoch, and the head as it was chosen.
    """
    train, val = batches.rows("train"), batches.rows("val")
    labels, classes = batches.labels.numpy(), network.head.out_features
    groups = groups_of(batches.index.iloc[train])
    weights = weights_of_classes(cfg.class_weights, batches.labels[train])
    head = fit_head(vectors[train], labels[train], classes, groups, cfg, seed, weights)
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(head.weight))
        network.head.bias.copy_(torch.from_numpy(head.bias))
    kind = targets.kind_for(batches.labels)
    with torch.inference_mode():
        device = on_device(network).device
        logits = network.head(torch.from_numpy(vectors.astype(np.float32)).to(device)).float().cpu()
    fitted = float(kind.loss(logits[train], batches.labels[train]))
    found = validation_figures(logits[val], batches.labels[val])
    epoch = Epoch(epoch=1, train_loss=fitted, head_lr=0.0, **found)
    assert_equal_everywhere(
        "the head", hashlib.sha256(head.weight.tobytes()).hexdigest(), "run them on machines of one kind"
    )
    return Trained(network.eval(), [epoch], epoch), head
