"""Small ONNX files, and that TVM computes of them what onnxruntime computes."""

import onnx
from onnx import TensorProto, helper, numpy_helper

from tvm_integration.compile.build import build
from tvm_integration.compile.execution import compare_outputs, run
from tvm_integration.compile.fusion import fuse
from tvm_integration.frontends.load import load_network
from tvm_integration.targets import host_target


def value(name, shape, element=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, element, shape)


def save(path, nodes, inputs, outputs, weights=(), *, opset=17, domain=""):
    tensors = [numpy_helper.from_array(array, name) for name, array in weights]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    imports = [helper.make_opsetid("", opset)]
    if domain:
        imports.append(helper.make_opsetid(domain, 1))
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)


def assert_equals_onnxruntime(path):
    network = load_network(path)
    got = run(build(fuse(network.module, host_target())), network.inputs)
    expected = network.reference.run(network.inputs)
    network.reference.close()
    found = compare_outputs(got, expected)
    assert found.match, found.reason
