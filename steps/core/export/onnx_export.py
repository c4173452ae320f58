"""A classifier as one ONNX file: a uint8 image in, probabilities out, and nothing to do in between.

Resize, crop, normalisation and temperature are inside the graph. The resize is the one that the model was
trained with: torchvision's antialiased resize of uint8 images works in integers, as Pillow's does, and is
repeated here step by step, so the network sees the same pixels.
"""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from steps.core.backbones.network import Network
from steps.core.modalities.image.pixels import Preprocessing, normalise
from steps.core.tasks.targets import ONE_OF, Targets

OPSET = 18
BITS = 15  # of a resize weight, its sign aside
MOST_PRECISION = 22
EDGE = 4  # positions at the border, where weights are largest
IMAGES, LOGITS, PROBABILITIES = "images", "logits", "probabilities"
Pixels = NDArray[np.uint8]


class Deployed(nn.Module):
    """Images uint8 (n, height, width, 3), upright RGB, to logits and probabilities (n, classes)."""

    def __init__(
        self, network: Network, look: Preprocessing, temperature: float, targets: Targets = ONE_OF
    ) -> None:
        super().__init__()
        self.network, self.look, self.temperature = network.eval().cpu(), look, temperature
        self.targets = targets

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Do all that production does with an image after decoding it."""
        logits = self.network(normalise(self.view(images), self.look))
        return logits, self.targets.probabilities(logits / self.temperature)

    def view(self, images: Tensor) -> Tensor:
        """Return the deterministic view (n, 3, side, side), whole numbers as float32; see `plain_view`."""
        height, width = (torch.scalar_tensor(n, dtype=torch.float64) for n in images.shape[1:3])
        short, to = torch.minimum(height, width), float(self.look.resize)
        rows, columns = (
            torch.full_like(n, to) if self.look.squash else torch.floor(n * to / short)
            for n in (height, width)
        )
        x = images.permute(0, 3, 1, 2).float()
        x = integer_pass(x, self.weights(width, columns, images.shape[2]))
        x = integer_pass(x.transpose(2, 3), self.weights(height, rows, images.shape[1]))
        return x.transpose(2, 3)

    def weights(self, size: Tensor, resized: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the whole-number weights (side, count) of one direction, and what they are multiples of."""
        side = self.look.side
        places = torch.round((resized - side) / 2) + torch.arange(side, dtype=torch.float64)
        border = torch.arange(EDGE, dtype=torch.float64)
        found = kernel(size, resized, torch.cat([border, places]), count, self.look.interpolation)
        unit = torch.pow(2.0, -precision(found.max()))
        scaled = found[EDGE:] / unit
        return torch.sign(scaled) * torch.floor(scaled.abs() + 0.5), unit


def kernel(size: Tensor, resized: Tensor, places: Tensor, count: int, interpolation: str) -> Tensor:
    """Return the share (places, count) that each input pixel has in each output pixel, in float64.

    ATen's `upsample_*_aa`: the filter is widened by the scale, cut at the border, and sums to 1.
    """
    scale = size / resized
    stretch = scale.clamp(min=1.0)
    half = (2.0 if interpolation == "bicubic" else 1.0) * stretch
    centre = (scale * (places + 0.5))[:, None]
    pixels = torch.arange(count, dtype=torch.float64)[None, :]
    first = torch.floor(centre - half + 0.5).clamp(min=0.0)
    end = torch.minimum(torch.floor(centre + half + 0.5), size)
    distance = ((pixels - centre + 0.5) * (1.0 / stretch)).abs()
    inside = (pixels >= first) & (pixels < end)
    weights = torch.where(inside, FILTERS[interpolation](distance), torch.zeros_like(distance))
    return weights / weights.sum(dim=1, keepdim=True)


def cubic(x: Tensor) -> Tensor:
    """Keys' cubic with a = -1/2, as Pillow has it."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = -0.5 * (((x - 5.0) * x + 8.0) * x - 4.0)
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, torch.zeros_like(x)))


def triangle(x: Tensor) -> Tensor:
    """The filter of the bilinear resize."""
    return (1.0 - x).clamp(min=0.0)


WEIGHTED = ("Conv", "Gemm", "MatMul")
# With what they follow: the range before them is much wider than what they let through.
BOUNDED = ("Clip", "Relu")

FILTERS: dict[str, Callable[[Tensor], Tensor]] = {"bicubic": cubic, "bilinear": triangle}


def precision(greatest: Tensor) -> Tensor:
    """Return how many binary places keep every weight within a signed 16-bit number.

    The least p with round(greatest * 2^(p + 1)) >= 2^15, and at most 22, as ATen counts it.
    """
    steps = torch.pow(2.0, torch.arange(1, MOST_PRECISION + 1, dtype=torch.float64))
    fits = torch.floor(greatest * steps + 0.5) < 2.0**BITS
    return fits.to(torch.float64).sum()


def integer_pass(x: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """Resize the last dimension of x, whole numbers 0..255, and round half up as the integer code does.

    In float32 about two pixels of a million come out on the other side of a half; in float64 none does,
    at half the speed.
    """
    whole, unit = weights
    shares = (whole * unit).float()
    return torch.floor(x @ shares.T + 0.5).clamp(0.0, 255.0)


def export_onnx(
    network: Network, look: Preprocessing, temperature: float, targets: Targets = ONE_OF
) -> bytes:
    """Return the classifier as an ONNX file; batch, height and width are free."""
    names = [torch.export.Dim(name, min=1, max=65536) for name in ("batch", "height", "width")]
    shapes = {"images": {0: names[0], 1: names[1], 2: names[2]}}
    example = torch.zeros(2, look.resize + 3, look.resize + 8, 3, dtype=torch.uint8)
    deployed = Deployed(network, look, temperature, targets).eval()
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's notes on its own insides
            program = torch.onnx.export(
                deployed, (example,), dynamo=True, opset_version=OPSET, dynamic_shapes=shapes,
                input_names=[IMAGES], output_names=[LOGITS, PROBABILITIES], verbose=False,
            )  # fmt: skip
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    assert program is not None
    return plain(program.model_proto)


def plain(model: onnx.ModelProto) -> bytes:
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
    """Hands the quantiser one image at a time."""

    def __init__(self, images: Sequence[Pixels]) -> None:
        self.images: Iterator[Pixels] = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next feed, None at the end."""
        image = next(self.images, None)
        return None if image is None else {IMAGES: image[None]}


def quantise(model: bytes, images: Sequence[Pixels]) -> bytes:
    """Return an int8 variant: static, per channel, its ranges from the given images (height, width, 3)."""
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source, ready, target = (Path(folder) / name for name in ("in.onnx", "ready.onnx", "int8.onnx"))
        source.write_bytes(model)
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            target,
            Calibration(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,  # 7 bits: without VNNI, sums of 8-bit products overflow 16 bits
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=[*WEIGHTED, *BOUNDED],
            nodes_to_exclude=kept_whole(onnx.load(ready)),
        )
        return target.read_bytes()


def kept_whole(model: onnx.ModelProto) -> list[str]:
    """Name the nodes that stay in float: all up to the first layer with weights, and products of variables.

    The resize is exact as it is, and the first layer, which is small, loses most of all to 7 bits. Products
    of variables are those of attention.
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
