"""Operators, windows and edges of kernels equal what the network says; names do not matter."""

from collections import Counter

import pytest
import torch
from search_tasks import full, matmul, relu, te

from costmodels.errors import InputError
from costmodels.features.kernel_graph import CONVOLUTIONS
from tvm_integration import zoo
from tvm_integration.compat import IRModule, Target, normalize_prim_func, tvm
from tvm_integration.compile.fusion import fuse
from tvm_integration.frontends.load import load_network
from tvm_integration.tir.kernel_graph import kernel_graph, operator_kinds

topi = tvm.topi
TARGET = Target({"kind": "llvm", "mcpu": "haswell", "num-cores": 2})


def module(*tensors) -> IRModule:
    return normalize_prim_func(te.create_prim_func(list(tensors)))


def placeholder(*shape, dtype="float32", name="X"):
    return te.placeholder(shape, dtype, name=name)


def test_matmul():
    graph = kernel_graph(matmul(64))
    a, b, product = graph.operators
    assert (a.opcode, a.shape) == ("parameter", (64, 64))
    assert graph.edges == ((0, 2), (1, 2))
    assert b.dtype == "float32"
    assert product.opcode == "matmul"
    assert (product.spatial, product.reduction) == ((64, 64), (64,))
    assert product.operations == {"add": 1, "mul": 1}
    assert operator_kinds(matmul(64, "int8")) == ("matmul",)


def test_kinds_without_reduction():
    x = placeholder(4, 8, 6)
    y = placeholder(4, 8, 6, name="Y")
    scalar = tvm.tirx.const(2.0)
    cases = {
        "relu": topi.nn.relu(x),
        "add": topi.add(x, y),
        "sub": topi.subtract(x, y),
        "div": topi.divide(x, y),
        "mul": topi.multiply(x, scalar),
        "exp": topi.exp(x),
        "tanh": topi.tanh(x),
        "sqrt": topi.sqrt(x),
        "cast": topi.cast(x, "float16"),
        "transpose": topi.transpose(x, (0, 2, 1)),
        "reshape": topi.reshape(x, (32, 6)),
        "slice": topi.strided_slice(x, [0, 2, 0], [4, 6, 6], [1, 1, 1]),
        "pad": topi.nn.pad(x, (0, 1, 2), (0, 1, 3)),
        "concatenate": topi.concatenate((x, y), axis=1),
        "broadcast": topi.broadcast_to(placeholder(8, 1, name="Z"), (4, 8, 6)),
        "clip": topi.clip(x, -1.0, 1.0),
    }
    for kind, result in cases.items():
        inputs = {"add": (x, y), "sub": (x, y), "div": (x, y), "concatenate": (x, y)}.get(
            kind, (x,)
        )
        if kind == "broadcast":
            inputs = tuple(result.op.input_tensors)
        assert operator_kinds(module(*inputs, result)) == (kind,), kind
    (pad,) = [o for o in kernel_graph(module(x, cases["pad"])).operators if o.opcode == "pad"]
    assert pad.padding == ((0, 0), (1, 1), (2, 3))
    indices = placeholder(5, dtype="int32", name="I")
    assert operator_kinds(module(x, indices, topi.take(x, indices, axis=0, mode="fast"))) == (
        "gather",
    )
    assert operator_kinds(full()) == ("constant",)
    assert operator_kinds(relu()) == ("relu",)


def test_reductions_and_pools():
    x = placeholder(1, 8, 12, 12)
    assert operator_kinds(module(x, topi.sum(x, axis=(2, 3)))) == ("reduce_sum",)
    assert operator_kinds(module(x, topi.max(x, axis=1))) == ("reduce_max",)
    pooled = topi.nn.pool2d(x, (3, 2), (2, 1), (1, 1), (1, 0, 1, 1), "max")
    graph = kernel_graph(module(x, pooled))
    (pool,) = [o for o in graph.operators if o.opcode == "pool_max"]
    assert (pool.window, pool.stride) == ((3, 2), (2, 1))
    assert pool.padding == ((1, 1), (0, 1))
    softmax = operator_kinds(module(x, topi.nn.softmax(x, axis=-1)))
    assert softmax == ("reduce_max", "exp", "reduce_sum", "div")


@pytest.mark.parametrize(
    ("groups", "kind"), [(1, "conv"), (4, "group_conv"), (16, "depthwise_conv")]
)
def test_a_convolution(groups, kind):
    x = placeholder(2, 16, 15, 14)
    w = placeholder(32, 16 // groups, 3, 5, name="W")
    result = topi.nn.conv(x, w, (2, 1), (1, 0, 2, 3), (1, 2), groups, "NCHW", "OIHW")
    graph = kernel_graph(module(x, w, result))
    (conv,) = [o for o in graph.operators if o.opcode in CONVOLUTIONS]
    assert conv.opcode == kind
    assert (conv.window, conv.stride, conv.dilation) == ((3, 5), (2, 1), (1, 2))
    assert conv.padding == ((1, 2), (0, 3))
    assert conv.shape == tuple(int(n) for n in result.shape)


def test_batch_matmul_and_its_edges():
    a, b = placeholder(4, 8, 16, name="A"), placeholder(4, 32, 16, name="B")
    product = topi.nn.batch_matmul(a, b)
    graph = kernel_graph(module(a, b, topi.nn.relu(product)))
    assert graph.kinds == ("batch_matmul", "relu")
    assert graph.edges == ((0, 2), (1, 2), (2, 3))


def test_renaming_changes_nothing():
    first = kernel_graph(matmul(32, name="C", inputs="AB"))
    assert kernel_graph(matmul(32, name="conv2d", inputs="XY")) == first


def test_a_kernel_without_blocks_has_no_graph():
    mod = IRModule({"main": tvm.tirx.PrimFunc([], tvm.tirx.Evaluate(0))})
    with pytest.raises(InputError, match="must have blocks"):
        kernel_graph(mod)
    assert operator_kinds(mod) == ()


def torch_convolutions(network, run) -> Counter:
    """(kind, input, output shape, window, stride, padding) of each convolution that runs."""
    found: Counter = Counter()

    def note(layer, inputs, output):
        depthwise = layer.groups == layer.in_channels and layer.groups > 1
        kind = "depthwise_conv" if depthwise else "group_conv" if layer.groups > 1 else "conv"
        padding = layer.padding
        if isinstance(padding, str):
            assert padding == "valid"
            padding = (0, 0)
        shape = tuple(output.shape)
        found[kind, shape, layer.kernel_size, layer.stride, tuple((p, p) for p in padding)] += 1

    hooks = [
        layer.register_forward_hook(note)
        for layer in network.modules()
        if isinstance(layer, torch.nn.Conv2d)
    ]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return found


def tvm_convolutions(network) -> Counter:
    fused = fuse(network.module, TARGET, prepack_weights=False)
    found: Counter = Counter()
    for task in fused.tasks:
        for operator in kernel_graph(task.mod).operators:
            if operator.opcode in CONVOLUTIONS:
                key = (operator.opcode, operator.shape, operator.window, operator.stride)
                found[*key, operator.padding] += task.weight
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "convolutions"), [("resnet50", 53), ("mobilenet_v2", 52)])
def test_every_convolution_of_a_network(name, convolutions):
    network, inputs = zoo.build(name, seed=0, image=64)
    truth = torch_convolutions(network.eval(), lambda: network(*inputs))
    assert truth.total() == convolutions
    assert tvm_convolutions(load_network(f"zoo:{name},image=64")) == truth
