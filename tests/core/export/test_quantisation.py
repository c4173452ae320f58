"""The 8-bit file: its layers, its weights, and what stays in float until it agrees."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from steps.core.export.parity import open_session, run
from steps.core.export.quantisation import Quantiser, quantise
from tests.core.toys import encode, exported, picture, raw

Raws = Sequence[NDArray[np.uint8]]


def samples(count: int, seed: int = 0) -> Raws:
    return [raw(encode(picture(seed + n, 34 + 3 * n, 50 - 2 * n, n % 3))) for n in range(count)]


def exact(name: str = "test_efficientnet") -> bytes:
    return exported(1.3, name)


@cache
def whole(name: str = "test_efficientnet") -> bytes:
    with Quantiser(exact(name), "images", samples(8)) as quantiser:
        return quantiser.quantise()


def error(content: bytes, name: str = "test_efficientnet") -> float:
    """The mean largest difference of logits."""
    shown = samples(8, 100)
    (wanted, _), (found, _) = (run(open_session(file), shown) for file in (exact(name), content))
    return float(np.abs(wanted - found).max(axis=1).mean())


def test_the_same_file_gives_the_same_bytes_smaller_and_close() -> None:
    with Quantiser(exact(), "images", samples(8)) as quantiser:
        assert quantiser.quantise() == whole()
        assert quantiser.quantise(list(quantiser.layers)[:2]) != whole()
        assert quantiser.quantise() == whole(), "what was tried before leaves nothing behind"
    assert len(whole()) < 0.75 * len(exact())
    assert 0 < error(whole()) < 0.1


def kinds_behind(file: bytes, kind: str) -> list[str | None]:
    """What makes the input of every node of a kind."""
    graph = onnx.load_from_string(file).graph
    maker = {name: node.op_type for node in graph.node for name in node.output}
    return [maker.get(node.input[0]) for node in graph.node if node.op_type == kind]


def test_the_first_layer_stays_in_float_and_a_bounded_activation_is_quantised_with_its_layer() -> None:
    first, *others = kinds_behind(whole("test_resnet"), "Conv")
    assert first != "DequantizeLinear"
    assert set(others) == {"DequantizeLinear"}
    assert kinds_behind(exact("test_resnet"), "Relu").count("Conv") > 3
    # the first layer's is left; of the others the range is that behind them, and they are no nodes any more
    assert kinds_behind(whole("test_resnet"), "Relu").count("Conv") == 1


def test_no_pair_of_pointwise_weights_overflows_and_depthwise_ones_use_all_bits() -> None:
    graph = onnx.load_from_string(whole()).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    depthwise, pairs = [], []
    for node in graph.node:
        if node.op_type != "Conv" or node.input[1] not in makers:
            continue
        weights = constants[makers[node.input[1]].input[0]].astype(int)
        group = next(one.i for one in node.attribute if one.name == "group")
        if group == len(weights):
            depthwise.append(np.abs(weights).max())
        elif weights.shape[2:] == (1, 1):
            rows = weights.reshape(len(weights), -1, 2)
            pairs += [np.maximum(rows, 0).sum(axis=2).max(), np.maximum(-rows, 0).sum(axis=2).max()]
        else:
            pairs.append(2 * np.abs(weights).max())
    assert depthwise
    assert set(depthwise) == {127}
    assert 120 < max(pairs) <= 128


def saturating(group: int, kernel: int) -> bytes:
    """Two convolutions of which the second adds products of the largest activations and weights."""
    weights = {
        "first.weight": np.ones((64, 1, 1, 1)),
        "second.weight": np.ones((64 if group == 64 else 1, 64 // group, kernel, kernel)),
    }
    pad = [kernel // 2] * 4
    nodes = [
        helper.make_node("Conv", ["images", "first.weight"], ["middle"], name="first"),
        helper.make_node("Conv", ["middle", "second.weight"], ["sum"], name="second", group=group, pads=pad),
    ]
    value = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 1, 4, 4]),
        helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1, 64 if group == 64 else 1, 4, 4]),
    ]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "saturating", value[:1], value[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()


@pytest.mark.parametrize(("group", "kernel"), [(1, 1), (1, 3), (64, 3)])
def test_sums_of_the_largest_products_do_not_overflow_on_this_processor(group: int, kernel: int) -> None:
    shown = np.full((1, 4, 4), 1.0, np.float32)
    model = saturating(group, kernel)
    with Quantiser(model, "images", [0 * shown, shown]) as quantiser:
        file = quantiser.quantise()
    (wanted,), (found,) = (
        ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"images": shown[None]})
        for content in (model, file)
    )
    np.testing.assert_allclose(found, wanted, rtol=0.02)


def test_noisy_layers_stay_in_float_until_the_file_agrees() -> None:
    wanted = 0.8 * error(whole())
    found = quantise(exact(), "images", samples(8), lambda content: error(content) <= wanted)
    assert 0 < len(found.float_layers) < found.layers
    assert error(found.content) <= wanted < error(found.all_layers)
    assert found.all_layers == whole()
    assert len(whole()) < len(found.content) < len(exact())


def test_a_file_that_agrees_at_once_or_never_has_all_layers_in_8_bits() -> None:
    found = quantise(exact(), "images", samples(8), lambda content: True)
    assert (found.content, found.float_layers) == (whole(), [])
    found = quantise(exact(), "images", samples(8), lambda content: False)
    assert (found.content, found.float_layers) == (whole(), [])


@pytest.mark.parametrize("number", [3, 6])
def test_the_layer_that_adds_the_noise_is_found(number: int) -> None:
    with Quantiser(exact(), "images", samples(8)) as quantiser:
        layer = list(quantiser.layers)[number]
        last, first, *_ = quantiser.noisiest(coarser(quantiser.quantise(), layer))
        assert (last, first) == (list(quantiser.layers)[-1], layer)


def coarser(content: bytes, layer: str) -> bytes:
    """Round a layer's 8-bit weights to multiples of 32."""
    model = onnx.load_from_string(content)
    weight = next(
        t for t in model.graph.initializer if layer in t.name and t.name.endswith("weight_quantized")
    )
    steps = np.round(numpy_helper.to_array(weight).astype(int) / 32)
    rounded = np.clip(steps * 32, -128, 127).astype(np.int8)
    weight.CopyFrom(numpy_helper.from_array(rounded, weight.name))
    return model.SerializeToString()
