"""Operators of old opsets mean what they meant then: onnx's converter does not see to all of it."""

import numpy as np
import pytest
from onnx import helper
from onnx_graphs import assert_equals_onnxruntime, save, value

from costmodels.errors import InputError
from tvm_integration.frontends.load import load_network


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("opset", [6, 9, 11])
def test_old_opsets_are_converted(opset):
    nodes = [
        helper.make_node("Slice", ["x"], ["s"], starts=[0, 1], ends=[2, 5], axes=[0, 2])
        if opset < 10
        else helper.make_node("Clip", ["x"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=1),
    ]
    shape = [2, 3, 4] if opset < 10 else [2, 3, 8]
    save("net.onnx", nodes, [value("x", [2, 3, 8])], [value("y", shape)], opset=opset)
    assert_equals_onnxruntime("net.onnx")


def save_resize(opset, mode, scales):
    """A Resize of opset 10, or the Upsample before it."""
    node = helper.make_node("Resize" if opset == 10 else "Upsample", ["x", "s"], ["y"], mode=mode)
    shape = [1, 2, int(np.float32(7) * np.float32(scales[0])), int(5 * scales[1])]
    weights = [("s", np.array([1, 1, *scales], np.float32))]
    save("net.onnx", [node], [value("x", [1, 2, 7, 5])], [value("y", shape)], weights, opset=opset)


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    ("opset", "scales"),
    [(9, (2, 2)), (10, (2, 2)), (10, (1.5, 1.5)), (10, (0.7, 0.6)), (10, (1, 0.4))],
)
def test_a_resize_counts_pixels_from_the_corner(opset, scales, mode):
    save_resize(opset, mode, scales)
    assert_equals_onnxruntime("net.onnx")


@pytest.mark.usefixtures("workplace")
def test_nearest_pixels_of_a_resize_both_ways():
    save_resize(10, "linear", (0.7, 1.3))
    assert_equals_onnxruntime("net.onnx")
    save_resize(10, "nearest", (0.7, 1.3))
    with pytest.raises(InputError, match=r"Resize \(.*stretches one and shrinks another"):
        load_network("net.onnx")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("operator", ["Hardmax", "LogSoftmax", "Softmax"])
def test_axes_from_the_given_one_on_are_one(operator):
    x, y = [value("x", [2, 3, 4])], [value("y", [2, 3, 4])]
    for opset, options in ((7, {"axis": 0}), (12, {}), (13, {"axis": 0})):
        save("net.onnx", [helper.make_node(operator, ["x"], ["y"], **options)], x, y, opset=opset)
        assert_equals_onnxruntime("net.onnx")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_resize_of_opset_11(mode):
    node = helper.make_node("Resize", ["x", "roi", "s"], ["y"], mode=mode)
    weights = [("s", np.array([1, 1, 2, 1.5], np.float32)), ("roi", np.zeros(0, np.float32))]
    inputs, outputs = [value("x", [1, 2, 3, 4])], [value("y", [1, 2, 6, 6])]
    save("net.onnx", [node], inputs, outputs, weights, opset=11)
    assert_equals_onnxruntime("net.onnx")
