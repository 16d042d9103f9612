"""ONNX files: what is imported, and what is named when it cannot be."""

import re
import sys

import numpy as np
import onnx
import pytest
from network_checks import assert_equals_reference, error_text
from onnx import TensorProto, helper

from costmodels.errors import InputError
from tvm_integration.frontends import reference
from tvm_integration.frontends.load import load_network
from tvm_integration.frontends.onnx_file import weight_files


def save_onnx(path, nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def value(name, shape, element=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, element, shape)


def save_convolution(path, shape):
    rng = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(rng.standard_normal((4, 3, 3, 3)).astype("float32"), "w"),
        onnx.numpy_helper.from_array(rng.standard_normal(4).astype("float32"), "b"),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Add", ["r", "offset"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["pooled"]),
    ]
    inputs = [value("image", shape), value("offset", [shape[0], 4, 1, 1])]
    save_onnx(path, nodes, inputs, [value("s", None), value("pooled", None)], weights)


@pytest.mark.usefixtures("workplace")
def test_onnx_file_equals_onnxruntime(capfd):
    save_convolution("net.onnx", [2, 3, 8, 8])
    network = load_network("net.onnx", seed=1)
    assert capfd.readouterr().out == ""
    assert network.name == "net"
    assert network.input_names == ("image", "offset")
    assert [x.shape for x in network.inputs] == [(2, 3, 8, 8), (2, 4, 1, 1)]
    assert network.reference.kind == "onnxruntime"
    assert_equals_reference(network)
    assert len(network.reference.measure_s(2, min_repeat_ms=1)) == 2
    # What importers attach for parameters would send passes looking for them.
    assert "num_input" not in (network.module["main"].attrs or {})


@pytest.mark.usefixtures("workplace")
def test_onnx_symbolic_dimensions_are_named_and_can_be_given():
    save_convolution("net.onnx", ["batch", 3, None, 8])
    assert error_text("net.onnx") == (
        "inputs of net.onnx must have fixed shapes, got the symbolic dimensions batch (image[0]), "
        "image[2]: give their values, net.onnx,batch=1,image[2]=1"
    )
    network = load_network("net.onnx,batch=2,image[2]=8")
    assert network.inputs[0].shape == (2, 3, 8, 8)
    assert_equals_reference(network)
    assert error_text("net.onnx,size=3") == (
        "option of net.onnx must be one of its symbolic dimensions (batch, image[0], image[2], "
        "offset[0]), got 'size': leave it out"
    )
    assert error_text("net.onnx,batch=0,image[2]=8") == (
        "batch of net.onnx must be at least 1, got 0: write batch=1, for example"
    )


@pytest.mark.usefixtures("workplace")
def test_onnx_operators_that_tvm_does_not_know_are_named():
    nodes = [
        helper.make_node("Hardmax", ["x"], ["h"]),
        helper.make_node("StringNormalizer", ["h"], ["s"]),
        helper.make_node("Det", ["s"], ["d"]),
    ]
    save_onnx("net.onnx", nodes, [value("x", [3, 3])], [value("d", None)])
    text = error_text("net.onnx")
    assert text.startswith("operators of net.onnx must be ones that TVM's ONNX importer knows, got")
    assert "StringNormalizer" in text
    assert text.endswith(": replace them in the graph, or give the network as .pt2")


@pytest.mark.usefixtures("workplace")
def test_operators_of_other_domains_are_not_taken_for_standard_ones():
    """TVM's importer looks at the name alone."""
    nodes = [helper.make_node("Relu", ["x"], ["y"], domain="acme")]
    save_onnx("net.onnx", nodes, [value("x", [3, 3])], [value("y", [3, 3])])
    assert "must be of a domain that TVM's ONNX importer knows, got acme.Relu" in error_text(
        "net.onnx"
    )


@pytest.mark.usefixtures("workplace")
def test_functions_of_a_file_are_inlined():
    """One that is called as a standard operator is."""
    body = [helper.make_node("MatMul", ["a", "a"], ["b"])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Relu", ["a"], ["b"], body, opsets[:1])
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], domain="own")],
        "graph",
        [value("x", [4, 4])],
        [value("y", [4, 4])],
    )
    model = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)
    onnx.save(model, "net.onnx")
    assert_equals_reference(load_network("net.onnx"))
    assert "matmul" in str(load_network("net.onnx").module)


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("shape", "element", "message"),
    [
        ([0, 4], TensorProto.FLOAT, "must not be empty, got size 0 along axis 0"),
        ([4], 99, "must be of a type that ONNX knows, got number 99"),
        ([1 << 20, 1 << 20], TensorProto.FLOAT, "must have at most 1,073,741,824 elements"),
        ([4], TensorProto.FLOAT8E5M2, "must hold numbers of a type that numpy has, got FLOAT8E5M2"),
    ],
)
def test_inputs_that_cannot_be_made_are_named(shape, element, message):
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    save_onnx("net.onnx", nodes, [value("x", shape, element)], [value("y", shape, element)])
    assert message in error_text("net.onnx")


@pytest.mark.usefixtures("workplace")
def test_an_opset_of_the_future_is_named():
    save_onnx(
        "net.onnx", [helper.make_node("Relu", ["x"], ["y"])], [value("x", [4])], [value("y", [4])]
    )
    model = onnx.load("net.onnx")
    model.opset_import[0].version = 99
    onnx.save(model, "net.onnx")
    assert "must be of an opset up to" in error_text("net.onnx")


@pytest.mark.usefixtures("workplace")
def test_names_with_commas_can_be_given():
    save_convolution("a,b.onnx", ["size, of batch", 3, 8, 8])
    assert error_text("a,b.onnx").endswith(
        "got the symbolic dimensions size, of batch (image[0]), size, of batch (offset[0]): "
        "give their values, a,b.onnx,image[0]=1,offset[0]=1"
    )
    assert load_network("a,b.onnx,image[0]=2,offset[0]=2").inputs[0].shape == (2, 3, 8, 8)


@pytest.mark.usefixtures("workplace")
def test_a_file_without_operators_is_named():
    save_onnx("net.onnx", [], [value("x", [4])], [value("x", [4])])
    assert "got one without operators" in error_text("net.onnx")


def test_weights_in_files_beside_are_found(workplace):
    save_convolution("net.onnx", [2, 3, 8, 8])
    path = workplace / "net.onnx"
    assert weight_files(path) == []
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert weight_files(path) == [workplace / "w.bin"]
    path.write_bytes(b"location")
    assert weight_files(path) == []


@pytest.mark.usefixtures("workplace")
def test_onnx_operator_that_fails_is_named_and_stdout_stays_clean(capfd):
    # TVM's importer wants constant pads and only prints which operator it was at.
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    save_onnx(
        "net.onnx",
        nodes,
        [value("x", [4]), value("shape", [2], TensorProto.FLOAT)],
        [value("y", None)],
    )
    text = error_text("net.onnx")
    assert capfd.readouterr().out == ""
    assert text.startswith("TVM must be able to import net.onnx, got ")
    assert re.search(r" at operator Reshape \(\w+\): export it again, replace that operator", text)


def test_truncated_and_foreign_onnx_files(workplace):
    save_convolution("net.onnx", [2, 3, 8, 8])
    whole = (workplace / "net.onnx").read_bytes()
    for length in (10, len(whole) // 2, len(whole) - 40, len(whole) - 3):
        (workplace / "cut.onnx").write_bytes(whole[:length])
        text = error_text("cut.onnx")
        assert "cut.onnx" in text
        assert "export it again" in text
    (workplace / "text.onnx").write_text("this is no network\n" * 10)
    assert error_text("text.onnx").startswith("text.onnx must be an ONNX file with its weights")


@pytest.mark.usefixtures("workplace")
def test_without_onnxruntime_the_network_loads_and_the_reference_says_why(monkeypatch):
    save_convolution("net.onnx", [2, 3, 8, 8])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    network = load_network("net.onnx")
    missing = reference.onnxruntime_reference("net.onnx", network.inputs)
    assert missing.kind is None
    assert missing.reason == (
        "onnxruntime must be installed to compare outputs and latency, got no such package: "
        "install the extra with `pip install 'tvm-costmodels[onnxruntime]'`"
    )
    with pytest.raises(InputError, match="onnxruntime must be installed"):
        missing.run(network.inputs)
    with pytest.raises(InputError, match="onnxruntime must be installed"):
        missing.measure_s(1)


def test_a_file_onnxruntime_refuses_is_no_reference(workplace):
    (workplace / "net.onnx").write_text("nonsense")
    missing = reference.onnxruntime_reference("net.onnx", ())
    assert missing.kind is None
    assert missing.reason.startswith("onnxruntime must be able to open net.onnx, got ")
    assert "\n" not in missing.reason


@pytest.mark.usefixtures("workplace")
def test_what_is_computed_in_floats_all_the_same_is_said_before_tuning(caplog):
    weights = [helper.make_tensor("s", TensorProto.FLOAT, [], [0.05])]
    weights += [helper.make_tensor("z", TensorProto.INT8, [], [0])]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    save_onnx("q.onnx", nodes, [value("x", [2, 3])], [value("y", [2, 3])], weights)
    assert_equals_reference(load_network("q.onnx"))
    assert "q.onnx is quantized" in caplog.text
    assert "between 2 QuantizeLinear and DequantizeLinear" in caplog.text
    caplog.clear()
    save_convolution("net.onnx", [2, 3, 8, 8])
    load_network("net.onnx")
    assert "quantized" not in caplog.text
