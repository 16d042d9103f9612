"""A network is the same graph of operators, whether read from torch, from ONNX or from Relax."""

import numpy as np
import pytest
import torch

from costmodels import graph_from_onnx, graph_from_torch
from costmodels.networks.features import NETWORK_OPERATOR, network_features
from tvm_integration import graph_from_relax
from tvm_integration.frontends.load import load_network
from tvm_integration.zoo import build

FLOP = [each.name for each in NETWORK_OPERATOR.columns].index("flop")
CONTRACTIONS = ("Conv", "Gemm", "MatMul", "Attention")


def heavy(graph):
    """Opcode, shape and work of the convolutions and matrix products, in order."""
    features = network_features(graph)
    return [
        (each.opcode, each.outputs[0].shape, each.numbers("strides"), round(float(work), 3))
        for each, work in zip(graph.operators, features[:, FLOP], strict=True)
        if each.opcode in CONTRACTIONS
    ]


@pytest.mark.parametrize("model", ["zoo:resnet18", "zoo:mobilenet_v2", "zoo:mlp"])
def test_torch_and_relax_agree(model):
    network = load_network(model)
    relax = graph_from_relax(network.module, model)
    assert relax.unknown == ()
    assert relax.operators[0].opcode == "Input"
    program = exported(model)
    torch_graph = graph_from_torch(program)
    assert torch_graph.unknown == ()
    convolutions = [each for each in heavy(relax) if each[0] == "Conv"]
    assert convolutions == [each for each in heavy(torch_graph) if each[0] == "Conv"]
    work = [sum(2.0 ** each[3] for each in heavy(graph)) for graph in (relax, torch_graph)]
    assert work[0] == pytest.approx(work[1], rel=1e-3)


def exported(model):
    network, example = build(model.removeprefix("zoo:"))
    return torch.export.export(network, example)


def test_onnx_and_torch_agree(tmp_path):
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, groups=8),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 14 * 14, 10),
    ).eval()
    example = (torch.ones(1, 3, 32, 32),)
    torch.onnx.export(network, example, tmp_path / "net.onnx", dynamo=True, verbose=False)
    onnx_graph = graph_from_onnx(tmp_path / "net.onnx")
    torch_graph = graph_from_torch(torch.export.export(network, example))
    assert heavy(onnx_graph) == heavy(torch_graph)


@pytest.mark.parametrize("model", ["zoo:vit_tiny", "zoo:bert_tiny"])
def test_every_operator_of_a_transformer_has_a_name(model):
    graph = graph_from_relax(load_network(model).module)
    assert graph.unknown == ()
    assert np.all(np.isfinite(network_features(graph)))
    assert graph.counts["Softmax"] + graph.counts["Attention"] > 0
