"""A network's latency from its kernels: fused graph, sum, what is not known, page, command line."""

import json
import re
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import onnx
import onnx.version_converter
import pytest
import torch
from network_checks import SMALL_NETWORK
from sampled_database import TARGET
from typer.testing import CliRunner

from costmodels.dataset.folder import read_dataset
from costmodels.errors import InputError
from costmodels.kernel import Measured
from costmodels.kernel_models.lookup_table import LookupTable
from costmodels.kernel_models.paleo import Paleo
from costmodels.load_model import load_kernel_model
from costmodels.network_models.overheads import Overheads, Parameter
from tvm_integration.cli.app import app
from tvm_integration.cli.estimate_page import estimate_html
from tvm_integration.compat import Target
from tvm_integration.compile.build import build
from tvm_integration.compile.execution import export, measure_s
from tvm_integration.compile.fused_graph import fused_graph
from tvm_integration.compile.fusion import fuse
from tvm_integration.estimate.estimate import EstimateOptions, estimate_network
from tvm_integration.estimate.network_features import describe_module, describe_network
from tvm_integration.estimate.tuned import IN_NETWORK
from tvm_integration.frontends.load import load_network
from tvm_integration.frontends.torch_program import from_torch
from tvm_integration.learn.train import train_model
from tvm_integration.records.database import open_database
from tvm_integration.targets import device_of
from tvm_integration.tune.search.strategy import Effort

BARE = EstimateOptions(overheads="none")
"""Kernels alone."""

SOME = 300
pytestmark = pytest.mark.usefixtures("own_cache")


def run(*arguments, **options):
    return CliRunner().invoke(app, list(map(str, arguments)), **options)


def document(capfd, *arguments):
    """What `estimate --json` prints: to the file itself, so that nothing else gets there."""
    capfd.readouterr()
    result = run("estimate", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(capfd.readouterr().out)


def test_the_launches_are_those_of_the_network():
    fused = fuse(load_network(SMALL_NETWORK).module, TARGET)
    graph = fused_graph(fused)
    assert graph.counts("kernel") == {task.name: task.weight for task in fused.tasks}
    found = graph.networkx()
    assert nx.is_directed_acyclic_graph(found)
    assert nx.is_weakly_connected(found)
    assert found.in_degree(0) == 0  # reads the input alone
    assert found.out_degree(len(graph.launches) - 1) == 0
    weights = sum(launch.constant_bytes for launch in graph.launches)
    assert weights == pytest.approx(build(fused).weight_bytes, rel=0.05)


def test_tied_weights_are_read_from_memory_once(target):
    layer = torch.nn.Linear(64, 64)

    def weights(layers):
        network = torch.nn.Sequential(*(x for each in layers for x in (each, torch.nn.ReLU())))
        module = from_torch("tied", network.eval(), (torch.zeros(1, 64),), {}).module
        launches = fused_graph(fuse(module, target)).launches
        return [(each.constant_bytes, each.tied_bytes) for each in launches]

    size = 4 * (64 * 64 + 64)
    assert weights([layer] * 3) == [(size, 0), (size, size), (size, size)]
    assert weights([torch.nn.Linear(64, 64) for _ in range(3)]) == [(size, 0)] * 3


def test_the_build_keeps_equal_weights_once(target, tmp_path):
    def library_bytes(layers):
        network = torch.nn.Sequential(*(x for each in layers for x in (each, torch.nn.ReLU())))
        module = from_torch("tied", network.eval(), (torch.zeros(1, 512),), {}).module
        export(build(fuse(module, target)), tmp_path / "library.so")
        return (tmp_path / "library.so").stat().st_size

    one = torch.nn.Linear(512, 512)
    own = library_bytes([torch.nn.Linear(512, 512) for _ in range(3)])
    assert library_bytes([one] * 3) < 0.5 * own


def test_a_residual_network_has_branches(target):
    graph = fused_graph(fuse(load_network("zoo:residual,number=5").module, target))
    assert any(len(launch.inputs) == 2 for launch in graph.launches)


def test_a_total_is_the_sum_of_its_kernels(network, target):
    found = estimate_network(
        network, target, device_of(target), load_kernel_model("pretrained:best"), BARE
    )
    parts = sum(kernel.count * kernel.latency.latency_s for kernel in found.kernels)
    assert found.total.total_s == pytest.approx(parts)
    assert found.total.low_s < found.total.total_s < found.total.high_s
    assert found.unsupported == ()
    assert {kernel.latency.source for kernel in found.kernels} == {"predicted"}
    shares = [kernel.count * kernel.latency.latency_s for kernel in found.kernels]
    assert shares == sorted(shares, reverse=True)
    extra = Overheads(Parameter(1e-3))
    options = EstimateOptions(overheads=extra)
    more = estimate_network(network, target, device_of(target), Paleo(), options)
    plain = estimate_network(network, target, device_of(target), Paleo(), BARE)
    launches = len(network.graph.launches)
    assert more.total.total_s == pytest.approx(plain.total.total_s + 1e-3 * launches)


def test_the_estimate_is_near_what_runs(network, target):
    """Within a factor of ten, on whatever machine and however busy it is."""
    found = estimate_network(
        network, target, device_of(target), load_kernel_model("pretrained:best"), BARE
    )
    loaded = load_network(SMALL_NETWORK)
    measured = float(np.median(measure_s(build(fuse(loaded.module, target)), loaded.inputs)))
    assert measured / 10 < found.total.total_s < measured * 10


def test_a_tensor_without_elements_is_named(target):
    class Network(torch.nn.Module):
        def forward(self, x):
            return torch.relu(x[:0]), torch.relu(x)

    module = from_torch("empty", Network(), (torch.zeros(4, 4),), {}).module
    described = describe_module(module, target)
    model = load_kernel_model("pretrained:best", seed=0)
    found = estimate_network(described, target, device_of(target), model, BARE)
    assert found.total is None
    assert {each.reason for each in found.unsupported} == {"it writes a tensor without elements"}
    small = Effort(first=16, rounds=1, per_round=16, fresh=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tvm_integration.tune.zero_trial.EFFORT", small)
        options = EstimateOptions("model", partial=True, overheads="none")
        chosen = estimate_network(described, target, device_of(target), model, options)
    assert chosen.total.total_s > 0
    assert len(chosen.unsupported) == 1


def test_what_a_model_does_not_know_is_named_and_there_is_no_total(network, target):
    device = device_of(target)
    batch = network.batch(device).take([0])
    table = LookupTable()
    known = Paleo().predict(batch)
    table.update(batch, [Measured((float(known.latency_s[0]),))])
    found = estimate_network(network, target, device, table, BARE)
    assert found.total is None
    assert found.as_json()["total_s"] is None
    assert len(found.unsupported) == len(network.kernels) - 1 - sum(
        kernel.latency is not None and kernel.note != "" for kernel in found.kernels
    )
    assert "the table has no entry of" in found.unsupported[0].reason
    partial = estimate_network(
        network, target, device, table, EstimateOptions(partial=True, overheads="none")
    )
    assert partial.total.total_s >= float(known.latency_s[0])
    sources = {kernel.latency.source for kernel in partial.kernels if kernel.latency is not None}
    assert "looked up" in sources


def test_library_calls_and_branches_are_named(target):
    from tvm import relax
    from tvm.script import ir as I
    from tvm.script import relax as R

    @I.ir_module
    class Module:
        @R.function
        def main(x: R.Tensor((4, 4), "float32")) -> R.Tensor((4, 4), "float32"):  # noqa: N805
            y = R.nn.relu(x)
            z = R.call_dps_packed("my_library.gemm", (y,), out_ty=R.Tensor((4, 4), "float32"))
            return z  # noqa: RET504

    assert isinstance(Module["main"], relax.Function)
    described = describe_module(Module, target)
    found = estimate_network(described, target, device_of(target), Paleo(), BARE)
    assert found.total is None
    partial = EstimateOptions(partial=True, overheads=Overheads(Parameter(1e-3)))
    part = estimate_network(described, target, device_of(target), Paleo(), partial)
    assert part.total.launches_s == pytest.approx(1e-3)  # of the launch that is known
    (missing,) = found.unsupported
    assert (missing.name, missing.count) == ("my_library.gemm", 1)
    assert "library" in missing.reason


def test_an_assertion_takes_no_time(target):
    from tvm.script import ir as I
    from tvm.script import relax as R

    @I.ir_module
    class Module:
        @R.function(pure=False)
        def main(x: R.Tensor((4, 4), "float32")) -> R.Tensor((4, 4), "float32"):  # noqa: N805
            R.assert_op(R.const(value=True, dtype="bool"), format="must hold")
            return R.nn.relu(x)

    found = estimate_network(
        describe_module(Module, target), target, device_of(target), Paleo(), BARE
    )
    assert not found.unsupported
    assert [launch.kind for launch in found.graph.launches] == ["kernel"]


def test_a_kernel_that_writes_constants_takes_as_long_as_its_bytes(target):
    """TVM extracts no features of it: the zeros that an LSTM begins with, for example."""

    class Network(torch.nn.Module):
        def forward(self, x):
            return torch.zeros(64, 256), torch.relu(x)

    module = from_torch("zeros", Network(), (torch.zeros(4, 4),), {}).module
    device = device_of(target)
    model = load_kernel_model("pretrained:best", seed=0)
    found = estimate_network(describe_module(module, target), target, device, model, BARE)
    assert not found.unsupported
    (zeros,) = (each for each in found.kernels if each.note)
    assert zeros.note == "it writes constants: its bytes over the bandwidth"
    expected = 4 * 64 * 256 / device.bandwidth_byte_per_s
    assert zeros.latency.latency_s == pytest.approx(expected)
    assert zeros.latency.low_s < expected / 3
    assert zeros.latency.high_s > 3 * expected


def test_measured_latencies_of_a_work_directory_are_used(target, tuned_kernel):
    described = describe_network("zoo:mlp", target)
    options = EstimateOptions("database", tuned_kernel, overheads="none")
    found = estimate_network(described, target, device_of(target), Paleo(), options)
    assert {kernel.latency.source for kernel in found.kernels} == {"measured"}
    calibrated = replace(options, overheads=Overheads(residual=0.01, networks=9))
    wide = estimate_network(described, target, device_of(target), Paleo(), calibrated).total
    assert wide.high_s / wide.total_s > 1.09  # calibrated on unscheduled networks, which are easy
    between = estimate_network(
        described, target, device_of(target), Paleo(), EstimateOptions("database", tuned_kernel)
    )
    told = between.provenance["overheads"]
    assert told["launch_s"]["value"] == IN_NETWORK.launch_s.value
    assert told["cold_share"]["value"] == 0, "kernels were measured with cold weights"
    before = {path.name: path.read_bytes() for path in tuned_kernel.iterdir()}
    unknown = describe_network(SMALL_NETWORK, target)
    with pytest.raises(InputError, match="must be that of a run that tuned nasbench201"):
        estimate_network(unknown, target, device_of(target), Paleo(), options)
    assert {path.name: path.read_bytes() for path in tuned_kernel.iterdir()} == before
    (tuned_kernel / "untuned_kernels.json").write_text('{"a": -1}')
    with pytest.raises(InputError, match=r"untuned_kernels\.json must hold seconds above 0"):
        estimate_network(described, target, device_of(target), Paleo(), options)
    (tuned_kernel / "untuned_kernels.json").unlink()
    found = estimate_network(described, target, device_of(target), Paleo(), options)
    assert {kernel.latency.source for kernel in found.kernels} == {"measured", "predicted"}
    other = Target({"kind": "llvm", "mcpu": "x86-64", "num-cores": 1})
    with pytest.raises(InputError, match="must hold records of target"):
        estimate_network(
            describe_network("zoo:mlp", other), other, device_of(other), Paleo(), options
        )


def test_a_run_that_measured_nothing_is_not_one_to_estimate_from(target, tmp_path):
    open_database(tmp_path, target)  # as `tune --trials 0` leaves it
    described = describe_network("zoo:mlp", target)
    options = EstimateOptions("database", tmp_path, overheads="none")
    with pytest.raises(InputError, match="must hold programs that were measured, got none: `cost"):
        estimate_network(described, target, device_of(target), Paleo(), options)


def test_a_model_chooses_schedules(target, monkeypatch):
    small = Effort(first=16, rounds=1, per_round=16, fresh=0.0)
    monkeypatch.setattr("tvm_integration.tune.zero_trial.EFFORT", small)
    described = describe_network("zoo:mlp", target)
    model = load_kernel_model("pretrained:best", seed=0)
    device = device_of(target)
    chosen = estimate_network(
        described, target, device, model, EstimateOptions("model", overheads="none")
    )
    default = estimate_network(described, target, device, model, BARE)
    assert chosen.total.total_s < default.total.total_s
    with pytest.raises(InputError, match="tells the schedules of a kernel apart"):
        estimate_network(
            described, target, device, Paleo(), EstimateOptions("model", overheads="none")
        )


def test_the_page_stands_alone(network, target):
    found = estimate_network(network, target, device_of(target), Paleo(), BARE)
    text = estimate_html(found)
    assert not re.search(r'(src|href)="|url\(|@import', text)
    assert text.count("<circle") == len(network.graph.launches)
    assert all(kernel.name in text for kernel in network.kernels)
    partial = replace(found, total=None)
    assert "not known" in estimate_html(partial)


def test_the_command(tmp_path, capfd):
    torch.manual_seed(0)
    page = tmp_path / "page.html"
    found = document(capfd, SMALL_NETWORK, "--html", page)
    assert found["low_s"] < found["total_s"] < found["high_s"]
    assert {"name", "count", "latency_s", "low_s", "high_s", "source"} <= set(found["kernels"][0])
    assert found["unsupported"] == []
    assert page.read_text().startswith("<!doctype html>")
    text = run("estimate", SMALL_NETWORK, "--model", "paleo").stdout
    assert "90 % interval" in text
    assert "for launches" in text
    assert re.search(r"^latency .* untuned, .* \(not calibrated\)$", text, re.MULTILINE)
    assert text.splitlines()[-1].startswith("not calibrated: overheads")
    board = ["--device", "raspberry-pi-5", "--target"]
    board += ["llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a76 -num-cores=4"]
    text = run("estimate", SMALL_NETWORK, *board).stdout
    assert "the model learned from no such processor: do not compare devices" in text
    text = run("estimate", SMALL_NETWORK, "--model", "paleo", "--overheads", "none").stdout
    assert text.splitlines()[-1].startswith("latency")


@pytest.mark.parametrize(("name", "opset"), [("shufflenet", 9), ("squeezenet", 13)])
def test_onnx_files_of_another_tool(name, opset, target, tmp_path):
    """Caffe2 wrote them; their weights are made by nodes of the graph."""
    path = Path(onnx.__file__).parent / f"backend/test/data/light/light_{name}.onnx"
    network = onnx.version_converter.convert_version(onnx.load(path), opset)
    onnx.save(network, tmp_path / "network.onnx")
    described = describe_network(str(tmp_path / "network.onnx"), target)
    found = estimate_network(described, target, device_of(target), Paleo(), BARE)
    assert found.unsupported == ()
    assert found.total.total_s > 1e-3
    convolutions = sum(node.op_type == "Conv" for node in network.graph.node)
    assert sum("conv" in launch.name for launch in described.graph.launches) == convolutions


def test_a_table_of_this_machine_is_built_and_looked_up(tmp_path, capfd):
    path = tmp_path / "table.csv"
    result = run("table", "zoo:mlp", "--out", path, "--data", tmp_path / "d")
    assert result.exit_code == 0, result.output
    assert "3 entries" in result.stdout
    found = document(capfd, "zoo:mlp", "--model", path)
    assert {kernel["source"] for kernel in found["kernels"]} == {"looked up"}
    assert found["total_s"] > 0
    with pytest.raises(InputError, match=r"must be a file that ends in \.csv"):
        run("table", "zoo:mlp", "--out", tmp_path / "t.txt", catch_exceptions=False)
    own = tmp_path / "own.csv"
    own.write_text("my,own\n1,2\n")
    with pytest.raises(InputError, match="must be a new file or a table to replace"):
        run("table", "zoo:mlp", "--out", own, catch_exceptions=False)
    assert own.read_text() == "my,own\n1,2\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zoo:none"], "zoo network must be one of"),
        (["zoo:mlp", "--model", "random"], "must be one that predicts seconds, got 'random'"),
        (["zoo:mlp", "--model", "gbt"], "must be one that has learned, got 'gbt'"),
        (["zoo:mlp", "--schedules", "best"], "schedules must be one of default, database, model"),
        (
            ["zoo:mlp", "--schedules", "database"],
            "costmodels_work/zoo_mlp and no database in it: `costmodels tune`",
        ),
        (["zoo:mlp", "--work-dir", "w"], "a work directory must be given with schedules database"),
        (
            ["zoo:mlp", "--schedules", "database", "--work-dir", "none"],
            r"work directory must be that of a tuning run, got .*none and no database in it",
        ),
        (["zoo:mlp", "--html", "nowhere/page.html"], "the folder of nowhere/page.html must exist"),
        (["zoo:mlp", "--html", "."], "must be a file to write, got a folder"),
        (["zoo:mlp", "--model", "a" * 300], "a kernel model must be one of"),
        (["zoo:mlp", "--overheads", "none.json"], "overheads none.json must be a file"),
        (["zoo:mlp", "--html", "/dev/null"], "must be a regular file or a new one"),
        (["zoo:mlp", "--target", "llvm -num-cores=999"], "num-cores must be at most the"),
        (["zoo:mlp,batch=1000000000000"], "torch must be able to make zoo:mlp"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        run("estimate", *arguments, catch_exceptions=False)


def test_a_page_never_replaces_what_is_read(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"mine")
    for page in (model, tmp_path / "records.json"):
        page.write_bytes(b"mine")
        with pytest.raises(InputError, match="must be a file of its own, got one of the input"):
            run(
                "estimate",
                *(model, "--html", page, "--schedules", "database", "--work-dir", tmp_path),
                catch_exceptions=False,
            )
        assert page.read_bytes() == b"mine"


def test_models_of_the_data_set_estimate_too(tmp_path, network, target):
    """A sparse polynomial trained on some shipped data predicts all of a network's kernels."""
    stored = read_dataset("shipped:cpu")
    records = stored.records[:: len(stored.records) // SOME]
    some = replace(stored, records=records, files_digest="")  # no features of all are kept
    model = train_model(some, "sparse_polynomial", tmp_path / "sparse.ckpt")
    found = estimate_network(network, target, device_of(target), model, BARE)
    assert found.total is not None
