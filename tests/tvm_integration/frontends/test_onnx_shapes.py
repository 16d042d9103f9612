"""Shapes that a graph computes of those of its inputs are known before it is imported."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnx_graphs import assert_equals_onnxruntime, save, value

from costmodels.errors import InputError
from tvm_integration.frontends.load import load_network

node = helper.make_node


@pytest.mark.usefixtures("workplace")
def test_shapes_that_exporters_compute_are_folded():
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["batch"], axis=0),
        helper.make_node("Concat", ["batch", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["y"]),
    ]
    weights = [("first", np.array([0])), ("rest", np.array([-1]))]
    save("net.onnx", nodes, [value("x", [2, 3, 4])], [value("y", [2, 12])], weights)
    assert_equals_onnxruntime("net.onnx")


SHAPE = [node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "second"], ["size"], axis=0)]
"""`size` has one element: 6, how long the second axis is."""
COMPUTED = {
    "ReduceProd": [
        node("ReduceProd", ["shape"], ["all"], keepdims=1),
        node("Reshape", ["x", "all"], ["y"]),
    ],
    "Split": [
        node("Div", ["size", "two"], ["half"]),
        node("Concat", ["half", "half"], ["parts"], axis=0),
        node("Split", ["x", "parts"], ["left", "right"], axis=1),
        node("Mul", ["left", "right"], ["y"]),
    ],
    "Cast-Div-Floor": [
        node("Cast", ["size"], ["real"], to=TensorProto.FLOAT),
        node("Div", ["real", "four"], ["quarter"]),
        node("Floor", ["quarter"], ["floor"]),
        node("Cast", ["floor"], ["whole"], to=TensorProto.INT64),
        node("Concat", ["rest", "whole"], ["wanted"], axis=0),
        node("Reshape", ["x", "wanted"], ["y"]),
    ],
    "Pad": [
        node("Concat", ["shape", "shape"], ["pads"], axis=0),
        node("Pad", ["x", "pads"], ["y"]),
    ],
    "Tile": [node("Tile", ["x", "shape"], ["y"])],
    "TopK": [
        node("Sub", ["size", "two"], ["k"]),
        node("TopK", ["x", "k"], ["y", "places"], axis=1),
    ],
    "Range": [
        node("Squeeze", ["size", "zeroth"], ["end"]),
        node("Range", ["zero", "end", "one"], ["places"]),
        node("Cast", ["places"], ["positions"], to=TensorProto.FLOAT),
        node("Add", ["x", "positions"], ["y"]),
    ],
    "Expand": [node("Expand", ["four", "shape"], ["fours"]), node("Add", ["x", "fours"], ["y"])],
}


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("which", COMPUTED)
def test_what_is_computed_of_fixed_shapes_is_folded(which):
    wholes = {"second": [1], "two": [2], "rest": [-1], "zeroth": [0], "zero": 0, "one": 1}
    weights = [(name, np.array(each, np.int64)) for name, each in wholes.items()]
    weights.append(("four", np.array([4], np.float32)))
    save("net.onnx", [*SHAPE, *COMPUTED[which]], [value("x", [2, 6])], [value("y", None)], weights)
    assert_equals_onnxruntime("net.onnx")


@pytest.mark.usefixtures("workplace")
def test_a_bert_of_torchs_exporter():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        vocab_size=50, max_position_embeddings=16, attn_implementation="eager",
    )  # fmt: skip
    bert = transformers.BertModel(config).eval()
    ids = torch.ones(1, 8, dtype=torch.int64)
    torch.onnx.export(bert, (ids,), "bert.onnx", dynamo=True, verbose=False)
    assert_equals_onnxruntime("bert.onnx")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("scale", [[4], [3, 1], [3, 4]])
def test_scales_of_layer_norms_are_spread(scale):
    """Over all axes that are normalized."""
    weights = [("s", np.arange(1, 1 + np.prod(scale), dtype=np.float32).reshape(scale))]
    norm = node("LayerNormalization", ["x", "s"], ["y"], axis=1)
    save("net.onnx", [norm], [value("x", [2, 3, 4])], [value("y", [2, 3, 4])], weights)
    assert_equals_onnxruntime("net.onnx")


@pytest.mark.usefixtures("workplace")
def test_what_decides_a_shape_must_be_constant():
    node = helper.make_node("Reshape", ["x", "shape"], ["y"], name="reshaped")
    inputs = [value("x", [2, 6]), value("shape", [2], TensorProto.INT64)]
    save("net.onnx", [node], inputs, [value("y", None)])
    with pytest.raises(InputError, match=r"Reshape \(reshaped\)"):
        load_network("net.onnx")
