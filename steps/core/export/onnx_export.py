"""A classifier as one ONNX file: a decoded sample in, probabilities out, and nothing to do in between.

What stands before the network is the modality's (for images resize, crop and normalisation), what stands
behind it are temperature and probabilities; all of it is inside the graph.
"""

import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from steps.core.backbones.network import Network
from steps.core.modalities.parts import InputGraph
from steps.core.tasks.targets import SINGLE_LABEL_TARGETS, Targets

OPSET = 18
LOGITS, PROBABILITIES = "logits", "probabilities"
Raw = NDArray[Any]
"""A sample as the file takes it, without the batch's axis."""


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


WEIGHTED = ("Conv", "Gemm", "MatMul")
# With what they follow: the range before them is much wider than what they let through.
BOUNDED = ("Clip", "Relu")


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


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Hands the quantiser one sample at a time."""

    def __init__(self, name: str, samples: Sequence[Raw]) -> None:
        self.name, self.samples = name, iter(samples)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next feed, None at the end."""
        sample = next(self.samples, None)
        return None if sample is None else {self.name: sample[None]}


def quantise(model: bytes, name: str, samples: Sequence[Raw]) -> bytes:
    """Return an int8 variant: static, per channel, its ranges from the given samples, its input `name`."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source, ready, target = (Path(folder) / name for name in ("in.onnx", "ready.onnx", "int8.onnx"))
        source.write_bytes(model)
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            target,
            Calibration(name, samples),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,  # 7 bits: without VNNI, sums of 8-bit products overflow 16 bits
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=[*WEIGHTED, *BOUNDED],
            nodes_to_exclude=float_nodes(onnx.load(ready)),
        )
        return target.read_bytes()


def float_nodes(model: onnx.ModelProto) -> list[str]:
    """Name the nodes that stay in float: all up to the first layer with weights, and products of variables.

    What stands before the network is exact as it is, and the first layer, which is small, loses most of all
    to 7 bits. Products of variables are those of attention.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in WEIGHTED]
    weighted = [node for node in nodes if constants.intersection(node.input)]
    made_by = {name: node for node in model.graph.node for name in node.output}
    kept = {node.name for node in nodes if node not in weighted}
    ahead = weighted[:1]
    while ahead:
        node = ahead.pop()
        kept.add(node.name)
        sources = (made_by[name] for name in node.input if name in made_by)
        ahead += [source for source in sources if source.name not in kept]
    return sorted(kept)
