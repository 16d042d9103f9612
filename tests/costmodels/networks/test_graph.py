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
    with pytest.raises(
        InputError, match=r"net.onnx must (be an ONNX file|be a file|have operators)"
    ):
        graph_from_onnx(path)


def test_an_operator_reads_from_earlier_ones():
    operators = (NetworkOperator(INPUT, (), (IMAGE,)), NetworkOperator("Relu", ((1, 0),), (IMAGE,)))
    with pytest.raises(InputError, match=r"operator 1 \(Relu\) must read outputs of earlier ones"):
        NetworkGraph(operators)
    with pytest.raises(InputError, match="a shape must be a tuple of whole numbers"):
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


def flop_of(graph, opcode):
    (place,) = [n for n, each in enumerate(graph.operators) if each.opcode == opcode]
    return feature(graph, place, "flop")


def exported(forward, *example, network=None):
    """A program of a function of tensors."""

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, *tensors):
            return forward(*tensors) if network is None else forward(self.network, *tensors)

    return torch.export.export(Wrapped().eval(), example)


def onnx_of(opcode, inputs, weights=(), domain="", **attributes):
    node = helper.make_node(opcode, [*inputs, *dict(weights)], ["y"], domain=domain, **attributes)
    return graph_from_onnx(model_of([node], inputs, ["y"], weights))


@pytest.mark.parametrize(
    ("graph", "opcode", "flop"),
    [
        pytest.param(
            lambda: graph_from_torch(
                torch.export.export(nn.Linear(8, 16), (torch.ones(5, 8),)).run_decompositions()
            ),
            "Gemm",
            1280,
            id="linear, decomposed",
        ),
        pytest.param(
            lambda: graph_from_torch(
                torch.export.export(
                    nn.ConvTranspose2d(3, 8, 3), (torch.ones(1, 3, 8, 8),)
                ).run_decompositions()
            ),
            "ConvTranspose",
            2 * 3 * 64 * 8 * 9,
            id="transposed convolution, decomposed",
        ),
        pytest.param(
            lambda: onnx_of("Gemm", {"a": (5, 8), "b": (8, 16), "c": (5, 16)}),
            "Gemm",
            1280,
            id="matrices that are all computed",
        ),
        pytest.param(
            lambda: onnx_of("Gemm", {"a": (8, 5), "b": (8, 16)}, transA=1),
            "Gemm",
            1280,
            id="a matrix that is transposed",
        ),
        pytest.param(
            lambda: onnx_of("Conv", {"x": (1, 3, 8, 8), "w": (8, 3, 3, 3)}),
            "Conv",
            2 * 8 * 36 * 27,
            id="weights that are an input",
        ),
        pytest.param(
            lambda: graph_from_torch(
                exported(torch.matmul, torch.ones(64, 5, 8), torch.ones(1, 8, 16))
            ),
            "MatMul",
            2 * 64 * 5 * 8 * 16,
            id="one of two stacks of matrices is broadcast",
        ),
        pytest.param(
            lambda: graph_from_torch(
                exported(
                    lambda x, w: torch.einsum("btd,hdk->bhtk", x, w),
                    torch.ones(2, 5, 8),
                    torch.ones(4, 8, 16),
                )
            ),
            "Einsum",
            2 * 2 * 5 * 8 * 4 * 16,
            id="einsum",
        ),
    ],
)
def test_contractions_are_counted_by_their_arguments(graph, opcode, flop):
    assert flop_of(graph(), opcode) == pytest.approx(flop, rel=1e-4)


def test_a_quantized_convolution_is_counted_by_its_weight():
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    weights = {
        "w": np.ones((8, 3, 3, 3), np.int8),
        **{name: np.ones((), np.float32) for name in ("xs", "ws", "ys")},
        **{name: np.zeros((), np.int8) for name in ("xz", "wz", "yz")},
    }
    graph = helper.make_graph(
        [helper.make_node("QLinearConv", names, ["y"])],
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.INT8, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.INT8, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert flop_of(graph_from_onnx(model), "QLinearConv") == pytest.approx(
        2 * 8 * 36 * 27, rel=1e-4
    )


def test_what_is_written_through_a_view_is_not_lost():
    def forward(x):
        z = torch.zeros(2, 5)
        z[:, :3].add_(x)
        return torch.relu(z) @ torch.ones(5, 7)

    graph = graph_from_torch(exported(forward, torch.ones(2, 3)))
    (relu,) = [n for n, each in enumerate(graph.operators) if each.opcode == "Relu"]
    (product,) = [n for n, each in enumerate(graph.operators) if each.opcode == "MatMul"]
    assert graph.operators[product].inputs == ((relu, 0),)
    assert graph.operators[relu].inputs[0][0] > 0  # not a constant of zeros
    assert graph.operators[product].weights == (TensorType((5, 7), "float32"),)


def test_a_part_of_a_weight_is_a_weight():
    network = nn.Linear(6, 4)
    graph = graph_from_torch(
        exported(
            lambda layer, x: x @ layer.weight.chunk(2, 1)[0].t(), torch.ones(5, 3), network=network
        )
    )
    assert graph.operators[-1].weights == (TensorType((3, 4), "float32"),)


def test_only_onnx_has_an_identity():
    node = helper.make_node("Identity", ["x"], ["y"], domain="org.made.up")
    model = model_of([node], {"x": (2,)}, [])
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, (2,)))
    model.opset_import.append(helper.make_opsetid("org.made.up", 1))
    assert graph_from_onnx(model).unknown == ("org.made.up.Identity",)


def test_random_numbers_are_no_weights():
    nodes = [
        helper.make_node("RandomNormal", [], ["r"], shape=[2]),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    assert graph_from_onnx(model_of(nodes, {"x": (2,)}, ["y"])).counts["RandomNormal"] == 1


def row(graph, opcode):
    (place,) = [n for n, each in enumerate(graph.operators) if each.opcode == opcode]
    return network_features(graph)[place]


def test_equal_operators_have_equal_features():
    plain = onnx_of("Conv", {"x": (1, 3, 8, 8)}, {"w": ones(4, 3, 3, 3)})
    layer = nn.Conv2d(3, 4, 3, bias=False)
    same = graph_from_torch(torch.export.export(layer, (torch.ones(1, 3, 8, 8),)))
    np.testing.assert_array_equal(row(plain, "Conv"), row(same, "Conv"))
    window = {"kernel_shape": [3, 3], "strides": [2, 2]}
    told = onnx_of("MaxPool", {"x": (1, 3, 8, 8)}, pads=[0, 0, 1, 1], **window)
    found = onnx_of("MaxPool", {"x": (1, 3, 8, 8)}, auto_pad="SAME_UPPER", **window)
    np.testing.assert_array_equal(row(told, "MaxPool"), row(found, "MaxPool"))


def test_axes_are_the_same_in_every_form():
    means = [
        graph_from_torch(exported(lambda x, axis=axis: x.mean(axis), torch.ones(2, 3, 4)))
        for axis in (2, -1)
    ]
    as_input = onnx_of("ReduceMean", {"x": (2, 3, 4)}, axes=[-1], keepdims=0)
    for other in (means[1], as_input):
        np.testing.assert_array_equal(row(means[0], "ReduceMean"), row(other, "ReduceMean"))
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
    model = model_of([node], {"x": (2, 3, 4)}, ["y"], {"axes": np.array([2], np.int64)})
    model.opset_import[0].version = 18
    found = graph_from_onnx(model)
    assert found.operators[1].attributes["axes"] == (2,)


@pytest.mark.parametrize("model", [None, 3, onnx.GraphProto()])
def test_what_is_no_model_is_said(model):
    with pytest.raises(InputError, match="must be the path of an ONNX file or a ModelProto, got"):
        graph_from_onnx(model)
