"""Kernels are told by the layers of the user's network whose weights they read."""

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from costmodels.errors import InputError
from tvm_integration.cli.app import app
from tvm_integration.estimate.network_features import describe_module, describe_network
from tvm_integration.frontends.layer_names import digest_of, layer_names, layer_of
from tvm_integration.frontends.onnx_layers import SCOPES, module_of
from tvm_integration.frontends.torch_program import from_torch
from tvm_integration.targets import host_target

NAME = "encoder[/b].[red]up:x:"
"""With what rich takes for markup and for an emoji."""


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.last = torch.nn.Linear(8, 5)
        for each in self.norm.parameters():
            torch.nn.init.normal_(each)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def target():
    return host_target()


def described(network, target, example):
    imported = from_torch("network", network.eval(), (example,), {})
    return describe_module(imported.module, target, layers=imported.layers).layers


def test_layers_of_torch_are_found_in_fused_kernels(target):
    torch.manual_seed(0)
    found = described(Network(), target, torch.zeros(1, 3, 8, 8))
    (convolution,) = (name for name in found if "conv2d" in name)
    assert found[convolution][:1] == ("first",)
    assert "norm" in found[convolution], "its scale and shift are only given another shape"
    (product,) = (name for name in found if "matmul" in name)
    assert found[product] == ("last",), "its weight is transposed"


def test_a_kernel_of_several_layers_has_them_in_the_order_of_its_calls(target):
    torch.manual_seed(0)
    network = torch.nn.Sequential(*[torch.nn.Linear(16, 16) for _ in range(3)])
    (layers,) = described(network, target, torch.zeros(4, 16)).values()
    assert layers == ("0", "1", "2")


def test_what_two_layers_hold_alike_is_no_ones():
    weights = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    found = layer_names(
        [("a.weight", weights), ("a.bias", weights[0]), ("b.weight", weights + 1)]
        + [("b.bias", np.zeros(4, np.float32)), ("c.bias", np.zeros(4, np.float32))]
        + [("c.epsilon", np.ones(1, np.float32))]
    )
    assert found[digest_of(weights)] == found[digest_of(weights.T)] == "a"
    assert found[digest_of(weights.reshape(1, 12))] == "a"
    assert found[digest_of(weights[0])] == "a"
    assert digest_of(np.zeros(4, np.float32)) not in found
    assert digest_of(np.ones(1, np.float32)) not in found
    assert set(found.values()) == {"a", "b"}


def test_a_layer_of_two_names_has_both(target):
    torch.manual_seed(0)

    class Shared(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Linear(32, 32)
            self.b = self.a

        def forward(self, x):
            return self.b(torch.relu(self.a(x)))

    found = described(Shared(), target, torch.zeros(4, 32))
    assert set(sum(found.values(), ())) == {"a / b"}


class WithBuffer(torch.nn.Module):
    def __init__(self, buffer):
        super().__init__()
        torch.manual_seed(0)
        self.l = torch.nn.Linear(64, 64)
        self.register_buffer("odd", buffer)

    def forward(self, x):
        return self.l(x)


def test_what_has_no_values_in_memory_has_no_name_and_does_no_harm(target):
    network = WithBuffer(torch.eye(64).to_sparse())
    assert list(described(network, target, torch.zeros(4, 64)).values()) == [("l",)]


@pytest.mark.parametrize(
    "buffer",
    [
        torch.randn(64, 64).to(torch.float8_e4m3fn),
        torch._neg_view(torch.randn(64, 64)),
        torch.randn(64, dtype=torch.complex64).conj(),
        torch.randn(64, dtype=torch.complex128),
    ],
    ids=["float8", "negative", "conjugate", "complex128"],
)
def test_buffers_of_odd_kinds_are_imported_or_refused_in_one_line(buffer, target):
    try:
        found = described(WithBuffer(buffer), target, torch.zeros(4, 64))
    except InputError:
        return  # TVM's importer knows some types only
    assert list(found.values()) == [("l",)]


def test_a_buffer_that_is_not_saved_is_not_taken_for_a_bias_like_it(target):
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.l = torch.nn.Linear(64, 64)
            self.register_buffer("t", self.l.bias.detach().clone(), persistent=False)

        def forward(self, x):
            return torch.maximum(torch.sigmoid(self.l(x)).softmax(-1), self.t)

    found = described(Network(), target, torch.zeros(4, 64))
    assert [layers for name, layers in found.items() if "matmul" in name] == [("l",)]
    assert not [layers for name, layers in found.items() if "softmax" in name]


@pytest.mark.parametrize(
    ("weight", "layer"),
    [
        ("layer1.0.conv1.weight", "layer1.0.conv1"),
        ("onnx::Conv_193", "onnx::Conv_193"),
        ("cls_token", "cls_token"),
        ("weight", "weight"),
        ("blocks.0.table", "blocks.0.table"),
    ],
)
def test_a_layer_is_named_without_the_part_that_the_weight_plays(weight, layer):
    assert layer_of(weight) == layer


@pytest.mark.parametrize("dynamo", [True, False])
def test_weights_without_a_name_are_of_the_module_whose_operator_reads_them(
    dynamo, target, tmp_path
):
    """Both exporters of torch transpose the weights of linear layers and drop their names."""
    torch.manual_seed(0)

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 8, 3)
            self.norm = torch.nn.BatchNorm2d(8)
            self.layers = torch.nn.Sequential(
                torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU()), torch.nn.Linear(16, 4)
            )

        def forward(self, x):
            return self.layers(self.norm(self.stem(x)).flatten(2).transpose(1, 2))

    path, example = tmp_path / "block.onnx", torch.zeros(1, 3, 8, 8)
    torch.onnx.export(Block().eval(), (example,), str(path), dynamo=dynamo)
    found = describe_network(str(path), target).layers
    assert set(sum(found.values(), ())) == {"stem", "layers.0.0", "layers.1"}


@pytest.mark.parametrize(
    ("name", "scopes", "module"),
    [
        ("/layer1/layer1.0/conv1/Conv", None, "layer1.0.conv1"),
        ("/encoder/layer.0/attention/self/MatMul", None, "encoder.layer.0.attention.self"),
        ("/MatMul", None, ""),
        ("MatMul_12", None, ""),
        ("node_linear", "['', 'block', 'block.0', 'linear']", "block.0"),
        ("node_add", "['', 'add']", ""),
        ("node_add", "damaged", ""),
        ("node_add", "{}", ""),
    ],
)
def test_an_operator_tells_its_module(name, scopes, module):
    node = onnx.helper.make_node("MatMul", ["x", "val_3"], ["y"], name=name)
    if scopes is not None:
        node.metadata_props.add(key=SCOPES, value=scopes)
    assert module_of(node) == module


def test_weights_of_types_that_numpy_lacks_have_names_too():
    class Narrow(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(16, 16, dtype=torch.bfloat16)

        def forward(self, x):
            return self.inner(x.bfloat16()).float()

    imported = from_torch("narrow", Narrow().eval(), (torch.zeros(4, 16),), {})
    assert set(imported.layers.values()) == {"inner"}


def test_initializers_of_onnx_name_layers_and_the_cache_and_the_command_know_them(
    target, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in ((f"{NAME}.weight", (32, 64)), (f"{NAME}.bias", (64,)))
    ]
    nodes = [
        onnx.helper.make_node("MatMul", ["x", f"{NAME}.weight"], ["product"]),
        onnx.helper.make_node("Add", ["product", f"{NAME}.bias"], ["y"]),
    ]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "graph",
        [value("x", onnx.TensorProto.FLOAT, [8, 32])],
        [value("y", onnx.TensorProto.FLOAT, [8, 64])],
        weights,
    )
    path = tmp_path / "up.onnx"
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    first = describe_network(str(path), target)
    assert list(first.layers.values()) == [(f"{NAME}",)]
    again = describe_network(str(path), target)
    assert again.from_cache
    assert again.layers == first.layers
    result = CliRunner().invoke(app, ["estimate", str(path), "--model", "paleo"])
    assert "layers" in result.stdout.splitlines()[0]
    assert NAME in result.stdout, "no markup, no emoji"
