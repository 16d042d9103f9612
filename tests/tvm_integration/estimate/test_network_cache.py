"""A network that was imported once is kept, and made again when anything of it is another."""

import numpy as np
import onnx
import pytest
from network_checks import SMALL_NETWORK

from costmodels.errors import InputError
from tvm_integration.compat import Target
from tvm_integration.estimate.network_features import describe_network
from tvm_integration.targets import device_of

pytestmark = pytest.mark.usefixtures("own_cache")


def test_the_second_time_nothing_is_imported(network, target, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("imported again")

    monkeypatch.setattr("tvm_integration.estimate.network_features.load_network", refuse)
    again = describe_network(SMALL_NETWORK, target)
    assert again.from_cache
    device = device_of(target)
    np.testing.assert_array_equal(again.batch(device).rows, network.batch(device).rows)
    assert again.graph == network.graph
    assert again.kernels == network.kernels
    with pytest.raises(AssertionError, match="imported again"):
        describe_network(SMALL_NETWORK, Target({"kind": "llvm", "mcpu": "x86-64", "num-cores": 1}))


def test_what_takes_long_is_told_and_the_cache_skips_all_of_it(target, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told = []
    first = describe_network("zoo:mlp", target, on_stage=told.append)
    kernels = len(first.kernels)
    assert told == [
        "importing the network",
        "fusing the network",
        *(f"describing kernel {number} of {kernels}" for number in range(1, kernels + 1)),
    ]
    told.clear()
    describe_network("zoo:mlp", target, on_stage=told.append)
    assert told == []


def test_what_other_code_imported_is_imported_again(network, target, monkeypatch):
    monkeypatch.setattr(
        "tvm_integration.estimate.network_features._sources", lambda: "of another state"
    )
    assert not describe_network(SMALL_NETWORK, target).from_cache


def test_a_damaged_cache_is_made_again(target, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    describe_network("zoo:mlp", target)
    (kept,) = (tmp_path / "costmodels" / "networks").iterdir()
    whole = kept.read_bytes()
    entry = whole.index(b"PK\x01\x02")
    for damaged in (whole[:100], whole[: entry + 10] + b"c" + whole[entry + 11 :]):
        kept.write_bytes(damaged)
        assert not describe_network("zoo:mlp", target).from_cache
        assert describe_network("zoo:mlp", target).from_cache


def test_the_cache_looks_at_weights_in_files_beside(target, tmp_path):
    nodes = [onnx.helper.make_node("Tile", ["x", "times"], ["y"])]
    value = onnx.helper.make_tensor_value_info
    for times in (1, 50):
        weights = [onnx.numpy_helper.from_array(np.array([times, times], np.int64), "times")]
        graph = onnx.helper.make_graph(
            nodes,
            "graph",
            [value("x", onnx.TensorProto.FLOAT, [8, 8])],
            [value("y", onnx.TensorProto.FLOAT, None)],
            weights,
        )
        opset = [onnx.helper.make_opsetid("", 17)]
        onnx.save(
            onnx.helper.make_model(graph, opset_imports=opset, ir_version=8),
            tmp_path / "tile.onnx",
            save_as_external_data=True,
            location="tile.bin",
            size_threshold=0,
        )
        found = describe_network(str(tmp_path / "tile.onnx"), target)
        assert not found.from_cache
        assert found.graph.launches[-1].output_bytes == 4 * 64 * times**2
    (tmp_path / "tile.bin").unlink()
    with pytest.raises(InputError, match=r"tile\.onnx must be an ONNX file with its weights"):
        describe_network(str(tmp_path / "tile.onnx"), target)
