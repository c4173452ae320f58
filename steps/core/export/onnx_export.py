"""A classifier as one ONNX file: a decoded sample in, probabilities out, and nothing to do in between.

What stands before the network is the modality's (for images resize, crop and normalisation), what stands
behind it are temperature and probabilities; all of it is inside the graph.
"""

import io
import logging
import warnings

import onnx
import torch
from torch import Tensor, nn

from steps.core.backbones.network import Network
from steps.core.modalities.parts import InputGraph
from steps.core.tasks.targets import SINGLE_LABEL_TARGETS, Targets

OPSET = 18
LOGITS, PROBABILITIES = "logits", "probabilities"


class DeployedClassifier(nn.Module):
    """Raw inputs (n, ...) to logits and probabilities (n, classes)."""

    def __init__(
        self,
        network: Network,
        input_module: nn.Module,
        temperature: float,
        targets: Targets = SINGLE_LABEL_TARGETS,
    ) -> None:
        super().__init__()
        self.network, self.input_module, self.temperature = network.eval().cpu(), input_module, temperature
        self.targets = targets

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Do all that production does with a sample after decoding it."""
        logits = self.network(self.input_module(raw))
        return logits, self.targets.probabilities(logits / self.temperature)


def export_onnx(
    network: Network, graph: InputGraph, temperature: float, targets: Targets = SINGLE_LABEL_TARGETS
) -> bytes:
    """Return the classifier as an ONNX file; the batch and what `graph` calls free may have any size."""
    axis_names = {0: "batch", **graph.dynamic_axes()}
    axes = {number: torch.export.Dim(name, min=1, max=65536) for number, name in axis_names.items()}
    example = graph.example()
    deployed = DeployedClassifier(network, graph.module(), temperature, targets).eval()
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's notes on its own insides
            program = torch.onnx.export(
                deployed, (example,), dynamo=True, opset_version=OPSET, dynamic_shapes={"raw": axes},
                input_names=[graph.name], output_names=[LOGITS, PROBABILITIES], verbose=False,
            )  # fmt: skip
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    assert program is not None
    return strip_metadata(program.model_proto)


def strip_metadata(model: onnx.ModelProto) -> bytes:
    """Return a model without notes on where its nodes are from: they name files of this machine."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    buffer = io.BytesIO()
    onnx.save_model(model, buffer)
    return buffer.getvalue()
