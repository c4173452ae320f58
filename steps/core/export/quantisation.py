"""A float32 ONNX file in 8 bits: static, per channel, in as many layers as agree with the float32 file.

A file must be right on every processor. Those without VNNI add the products of unsigned activations and
signed weights in pairs, in 16 bits (`vpmaddubsw`): 255 times a pair's sum of weights overflows from 129 on.
The usual answer is 7 bits for all weights. Here a layer keeps as many of the 8 as its arithmetic allows, see
`weight_scales`. Unsigned weights, which are added in 32 bits there, are as exact and several times slower.
"""

import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

WEIGHTED = ("Conv", "Gemm", "MatMul")
# With what they follow: the range before them is much wider than what they let through.
BOUNDED = ("Clip", "Relu")
DEQUANTISED = "_DequantizeLinear_Output"  # how the quantiser names what a tensor is in 8 bits
SMALLEST = 1e-30  # scale of weights that are all 0
NOISE_SAMPLES = 16  # that the noise of every layer is measured on
Raw = NDArray[Any]
"""A sample as the file takes it, without the batch's axis."""
Agrees = Callable[[bytes], bool]
"""Says whether a file agrees well enough with the float32 file."""


@dataclass(frozen=True)
class Quantised:
    """An 8-bit file."""

    content: bytes
    float_layers: list[str]
    """The weights of the layers that had to stay in float, noisiest first; the first layer always does."""
    layers: int
    """That could be in 8 bits."""
    all_layers: bytes
    """The file in which they all are."""


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Hands the quantiser one sample at a time."""

    def __init__(self, name: str, samples: Sequence[Raw]) -> None:
        self.name, self.samples = name, iter(samples)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next feed, None at the end."""
        sample = next(self.samples, None)
        return None if sample is None else {self.name: sample[None]}


class Quantiser(AbstractContextManager["Quantiser"]):
    """Quantises one model again and again; the ranges of its tensors are measured once.

    Args:
        model: A float32 file.
        name: Of its input.
        samples: As the file takes them, without the batch's axis; the ranges are over all of them.
    """

    def __init__(self, model: bytes, name: str, samples: Sequence[Raw]) -> None:
        self.name, self.samples = name, samples
        self.folder = TemporaryDirectory()
        self.place = Path(self.folder.name)
        source = self.place / "in.onnx"
        source.write_bytes(model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quant_pre_process(source, self.place / "ready.onnx", skip_symbolic_shape=True)
        self.ready = onnx.load(self.place / "ready.onnx")
        self.ahead = float_nodes(self.ready)
        self.layers = layers_of(self.ready, self.ahead)

    def __exit__(self, *error: object) -> None:
        """Remove the temporary files."""
        self.folder.cleanup()

    def quantise(self, float_layers: Collection[str] = ()) -> bytes:
        """Return the file; some layers, by the name of their weights, stay in float with what bounds them."""
        kept = [node for layer in float_layers for node in self.layers[layer].nodes]
        overrides = {
            layer.weight: layer.scales for name, layer in self.layers.items()
            if layer.scales and name not in float_layers
        }  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantize_static(
                self.place / "ready.onnx",
                self.place / "int8.onnx",
                Calibration(self.name, self.samples),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,  # where nothing else is said: 7 bits
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=[*WEIGHTED, *BOUNDED],
                nodes_to_exclude=sorted({*self.ahead, *kept}),
                extra_options={"TensorQuantOverrides": overrides},
                calibration_cache_path=self.place / "ranges.json",
            )
        return (self.place / "int8.onnx").read_bytes()

    def noisiest(self, content: bytes) -> list[str]:
        """Return the last layer, then the others by the noise that each adds, largest first.

        Nothing behind the last layer evens its noise out, and it is small.

        Noise is the mean square of what differs from the float32 tensor over that tensor's own; what a layer
        adds is the noise behind it minus the noise before it.
        """
        names = {name for layer in self.layers.values() for name in (layer.before, layer.behind)}
        exact, rough = self.ready, onnx.load_from_string(content)
        made = {name for node in rough.graph.node for name in node.output}
        pairs = {name: name + DEQUANTISED for name in sorted(names) if name + DEQUANTISED in made}
        if not pairs:
            return list(self.layers)[::-1]
        sums = {name: np.zeros(2) for name in pairs}
        sessions = [with_outputs(exact, list(pairs)), with_outputs(rough, list(pairs.values()))]
        for sample in self.samples[:NOISE_SAMPLES]:
            found = [session.run(None, {self.name: sample[None]}) for session in sessions]
            for name, one, other in zip(pairs, *found, strict=True):
                sums[name] += np.square(one - other, dtype=np.float64).sum(), np.square(one).sum()
        noise = {name: error / max(signal, 1e-30) for name, (error, signal) in sums.items()}

        def added(layer: str) -> float:
            places = self.layers[layer]
            return float(noise.get(places.behind, 0.0) - noise.get(places.before, 0.0))

        *others, last = self.layers
        return [last, *sorted(others, key=added, reverse=True)]


@dataclass(frozen=True)
class Layer:
    """A node with weights, and the bound behind it."""

    weight: str
    scales: list[dict[str, Any]]
    """Of its weights, one for each output channel, as the quantiser takes them; none: the quantiser's own."""
    nodes: tuple[str, ...]
    before: str
    """The tensor that enters."""
    behind: str
    """The tensor that leaves the last of the nodes."""


def quantise(model: bytes, name: str, samples: Sequence[Raw], agrees: Agrees) -> Quantised:
    """Return an 8-bit file for which `agrees` holds, with as few layers in float as it takes.

    All layers are tried first; then the noisiest ones stay in float, as many as a bisection finds to be
    needed. Where nothing agrees that has a layer in 8 bits, it is the file with all of them, and
    whoever compares it sees how far it is off.
    """
    with Quantiser(model, name, samples) as quantiser:
        whole = quantiser.quantise()
        if agrees(whole):
            return Quantised(whole, [], len(quantiser.layers), whole)
        order = quantiser.noisiest(whole)
        enough, too_few = len(order), 0
        content = whole
        while enough - too_few > 1:
            middle = (enough + too_few) // 2
            tried = quantiser.quantise(order[:middle])
            if agrees(tried):
                enough, content = middle, tried
            else:
                too_few = middle
        return Quantised(content, [] if content == whole else order[:enough], len(order), whole)


def float_nodes(model: onnx.ModelProto) -> list[str]:
    """Name the nodes that stay in float: all up to the first layer with weights, and products of variables.

    What stands before the network is exact as it is, and the first layer, which is small, loses most of all.
    Products of variables are those of attention.
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


def layers_of(model: onnx.ModelProto, ahead: Collection[str]) -> dict[str, Layer]:
    """Return the layers that can be in 8 bits, in the order of the graph, by the name of their weights."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    found = {}
    for node in model.graph.node:
        if node.op_type not in WEIGHTED or node.name in ahead:
            continue
        weight = next(name for name in node.input if name in constants)
        before = next(name for name in node.input if name not in constants)
        bounds = [user for user in users.get(node.output[0], []) if user.op_type in BOUNDED]
        nodes = [node, *bounds[:1]]
        key = weight.removesuffix(".weight").removeprefix("network.")
        key = key if key not in found else f"{key} ({node.name})"
        scales = (
            weight_scales(node, numpy_helper.to_array(constants[weight])) if node.op_type == "Conv" else []
        )
        found[key] = Layer(weight, scales, tuple(one.name for one in nodes), before, nodes[-1].output[0])
    return found


def weight_scales(node: onnx.NodeProto, weights: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return the scale of each output channel of a convolution with weights (channels, inputs, ...).

    - Depthwise: the largest weight is 127; ONNX Runtime adds its few products in 32 bits.
    - Pointwise: products are added in pairs of neighbouring input channels, so no pair of one sign may exceed
      128. Seldom are both of a pair the largest, so this is finer than 7 bits.
    - Others: the order in which products are added is not known, so 7 bits.
    """
    rows = weights.reshape(len(weights), -1)
    groups = next((one.i for one in node.attribute if one.name == "group"), 1)
    if groups > 1 and groups == len(weights):
        largest = np.abs(rows).max(axis=1)
    elif weights[0, 0].size == 1:
        padded = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2)))
        signs = (np.maximum(padded, 0), np.maximum(-padded, 0))
        largest = np.maximum(*((one[:, ::2] + one[:, 1::2]).max(axis=1) for one in signs))
    else:
        largest = 2 * np.abs(rows).max(axis=1)
    steps = np.maximum(largest / 127, SMALLEST).astype(np.float32)
    common = {"axis": 0, "quant_type": QuantType.QInt8, "zero_point": np.array(0, np.int8)}
    return [{**common, "scale": np.array(step, np.float32)} for step in steps]


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> ort.InferenceSession:
    """Load a model that returns some of its tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
