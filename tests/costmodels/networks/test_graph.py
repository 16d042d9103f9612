"""Networks before fusion: what is read from ONNX files and torch programs, and what is refused."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from costmodels import graph_from_onnx, graph_from_torch
from costmodels.errors import InputError
from costmodels.networks.features import NETWORK_OPERATOR, network_features, operator_flop
from costmodels.networks.graph import NetworkGraph, NetworkOperator, TensorType
from costmodels.networks.opcodes import INPUT, OPCODES, opcode_numbers

IMAGE = TensorType((1, 3, 8, 8), "float32")


def model_of(nodes, inputs, outputs, weights=(), **options):
    """An ONNX model of float32 inputs: name -> shape; sizes as texts are symbolic."""
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(value, name) for name, value in dict(weights).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], **options)


def ones(*shape):
    return np.ones(shape, np.float32)


def feature(graph, operator, name):
    """A feature as it was before its logarithm was taken."""
    column = [each.name for each in NETWORK_OPERATOR.columns].index(name)
    return 2.0 ** float(network_features(graph)[operator, column]) - 1


class Branches(nn.Module):
    """A convolution and a pooling side by side, then a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1)
        self.pool = nn.MaxPool2d(2)
        self.narrow = nn.Conv2d(3, 8, 1)
        self.last = nn.Linear(8 * 4 * 4, 10)

    def forward(self, x):
        both = torch.relu(self.conv(x)) + self.narrow(self.pool(x))
        return torch.softmax(self.last(torch.flatten(both, 1)), dim=-1)


def test_a_torch_program_is_read():
    graph = graph_from_torch(torch.export.export(Branches().eval(), (torch.ones(1, 3, 8, 8),)))
    assert graph.counts == {
        "Conv": 2,
        "Relu": 1,
        "MaxPool": 1,
        "Add": 1,
        "Flatten": 1,
        "Gemm": 1,
        "Softmax": 1,
    }
    assert graph.operators[0].opcode == INPUT
    conv = next(each for each in graph.operators if each.opcode == "Conv")
    assert conv.attributes == {
        "kernel_shape": (3, 3),
        "strides": (2, 2),
        "dilations": (1, 1),
        "pads": (1, 1, 1, 1),
        "group": 1,
    }
    assert conv.weights == (TensorType((8, 3, 3, 3), "float32"), TensorType((8,), "float32"))
    assert conv.outputs == (TensorType((1, 8, 4, 4), "float32"),)
    (add,) = [n for n, each in enumerate(graph.operators) if each.opcode == "Add"]
    assert {graph.operators[source].opcode for source, _ in graph.operators[add].inputs} == {
        "Relu",
        "Conv",
    }


def test_weights_on_the_meta_device_will_do():
    with torch.device("meta"):
        network, example = nn.Linear(1 << 14, 1 << 14), torch.ones(2, 1 << 14)
    graph = graph_from_torch(torch.export.export(network, (example,)))
    assert feature(graph, 1, "flop") == pytest.approx(2 * 2 * 2**28, rel=1e-4)


def test_outputs_of_a_split_are_told_apart():
    class Split(nn.Module):
        def forward(self, x):
            first, second = torch.split(x, [1, 3], dim=1)
            return first * second, second + second

    graph = graph_from_torch(torch.export.export(Split(), (torch.ones(2, 4),)))
    split, product, total = graph.operators[1:]
    assert split.opcode == "Split"
    assert [each.shape for each in split.outputs] == [(2, 1), (2, 3)]
    assert product.inputs == ((1, 0), (1, 1))
    assert total.inputs == ((1, 1), (1, 1))


def test_what_onnx_has_no_name_for_keeps_its_own():
    class Strange(nn.Module):
        def forward(self, x):
            return torch.special.i0(x)

    graph = graph_from_torch(torch.export.export(Strange(), (torch.ones(2),)))
    assert graph.unknown == ("aten.special_i0",)


def test_a_torch_module_is_no_program():
    with pytest.raises(InputError, match=r"must be a torch\.export\.ExportedProgram, got Linear"):
        graph_from_torch(nn.Linear(2, 2))


def test_symbolic_shapes_of_a_program_are_refused():
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(
        nn.Linear(2, 2), (torch.ones(3, 2),), dynamic_shapes=({0: batch},)
    )
    with pytest.raises(InputError, match="shapes of the program must be fixed"):
        graph_from_torch(program)


def test_an_onnx_file_is_read(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1], name="c"),
        helper.make_node("Identity", ["a"], ["same"]),
        helper.make_node("Shape", ["same"], ["s"]),
        helper.make_node("Constant", [], ["k"], value_ints=[0]),
        helper.make_node("Gather", ["s", "k"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["same", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "m"], ["y"]),
    ]
    weights = {"w": ones(4, 3, 3, 3), "m": ones(64, 5), "rest": np.array([-1], np.int64)}
    path = tmp_path / "net.onnx"
    onnx.save(model_of(nodes, {"x": (1, 3, 8, 8)}, ["y"], weights), path)
    graph = graph_from_onnx(path)
    assert [each.opcode for each in graph.operators] == [INPUT, "Conv", "Reshape", "MatMul"]
    assert graph.operators[1].attributes["strides"] == (2, 2)
    assert graph.operators[3].inputs == ((2, 0),)
    assert graph.operators[3].outputs[0].shape == (1, 5)
    assert feature(graph, 3, "flop") == pytest.approx(2 * 64 * 5, rel=1e-4)
    assert feature(graph, 1, "flop") == pytest.approx(2 * 4 * 16 * 27, rel=1e-4)


def test_symbolic_sizes_are_given_by_name():
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": ("n", 4)}, ["y"])
    with pytest.raises(InputError, match="got none for input 'x': give the sizes"):
        graph_from_onnx(model)
    assert graph_from_onnx(model, {"n": 3}).operators[1].outputs[0].shape == (3, 4)


def test_an_operator_of_another_domain_is_named():
    nodes = [helper.make_node("Magic", ["x"], ["y"], domain="org.made.up", name="m")]
    model = model_of(nodes, {"x": (2,)}, ["y"])
    model.graph.value_info.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, (2,)))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, (2,)))
    model.opset_import.append(helper.make_opsetid("org.made.up", 1))
    assert graph_from_onnx(model).unknown == ("org.made.up.Magic",)


@pytest.mark.parametrize("content", [b"", b"no model", None])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"net.onnx must (be an ONNX file|have operators)"):
        graph_from_onnx(path)


def test_an_operator_reads_from_earlier_ones():
    operators = (NetworkOperator(INPUT, (), (IMAGE,)), NetworkOperator("Relu", ((1, 0),), (IMAGE,)))
    with pytest.raises(InputError, match=r"operator 1 \(Relu\) must read outputs of earlier ones"):
        NetworkGraph(operators)
    with pytest.raises(InputError, match="a shape must be of whole numbers"):
        TensorType((1, -1), "float32")


def test_matrices_count_what_they_sum_over():
    batched = NetworkOperator("MatMul", (), (TensorType((2, 4, 5), "float32"),))
    left, right = TensorType((2, 4, 7), "float32"), TensorType((2, 7, 5), "float32")
    assert operator_flop(batched, [left, right]) == pytest.approx(2 * 2 * 4 * 5 * 7)


def test_the_vocabulary_has_each_name_once():
    assert len(set(OPCODES)) == len(OPCODES)
    assert opcode_numbers(["Input", "Conv"]).tolist() == [0, OPCODES.index("Conv")]
    standard = {each.name for each in onnx.defs.get_all_schemas() if each.domain == ""}
    assert set(OPCODES) - {INPUT} <= standard | {"Upsample", "Swish", "TensorScatter", "DeformConv"}
