"""`estimate` tells what tuning will make of a network: beside untuned, alone, and in JSON."""

import json

import numpy as np
import pytest
from made_up_tuning import XEON as DEVICE
from made_up_tuning import network as made_up
from typer.testing import CliRunner

from costmodels.errors import InputError
from costmodels.network_models.overheads import DEFAULT_OVERHEADS, Overheads, Parameter
from costmodels.tuned_latency.networks import SumOfTunedKernels, shipped_model
from tvm_integration.cli.app import app
from tvm_integration.estimate.estimate import EstimateOptions, estimate_network
from tvm_integration.estimate.network_features import describe_network
from tvm_integration.estimate.tuned import IN_NETWORK, between_tuned_kernels, tuned_graphs
from tvm_integration.targets import parse_target

XEON = "llvm -mcpu=sapphirerapids -num-cores=2"
"""With the ready device file of such processors, which the model has learned from."""
NAME = "intel-xeon-2-cores"
pytestmark = pytest.mark.usefixtures("own_cache", "shipped")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of networks that nobody measured."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("model") / "tuned_latency.ckpt"
    SumOfTunedKernels().fit([made_up(n, rng, DEVICE) for n in range(16)]).save(path)
    return path


@pytest.fixture
def shipped(checkpoint, monkeypatch):
    monkeypatch.setattr("costmodels.tuned_latency.networks.SHIPPED", checkpoint)
    shipped_model.cache_clear()
    yield
    shipped_model.cache_clear()


def run(*arguments, **options):
    return CliRunner().invoke(app, list(map(str, arguments)), **options)


def estimated(options, network="zoo:mlp", device=NAME):
    return estimate_network(network, XEON, device, options=options)


def test_untuned_and_tuned_are_told_together():
    found = estimated(EstimateOptions())
    tuned, further = found.tuned
    assert (tuned.trials, further.trials) == (64, 1000)
    assert 0.6 < further.total.total_s / tuned.total.total_s < 1
    assert further.tuning_s > 8 * tuned.tuning_s
    assert tuned.total.low_s < tuned.total.total_s < tuned.total.high_s
    assert tuned.total.total_s < found.total.total_s
    assert tuned.kernels.keys() == {kernel.name for kernel in found.kernels}
    assert 1 < tuned.tuning_s < 3600


def test_alone_it_is_the_estimate():
    beside = estimated(EstimateOptions()).tuned[0]
    found = estimated(EstimateOptions("tuned"))
    assert found.total == beside.total
    assert {kernel.name: kernel.latency for kernel in found.kernels} == beside.kernels
    assert found.has_interval
    assert not found.unsupported


def test_fewer_trials_are_no_faster():
    few, many = (estimated(EstimateOptions("tuned", trials=n)).total.total_s for n in (8, 64))
    assert few >= many


def test_functions_that_tuning_rewrites_are_described_rewritten():
    network = describe_network("zoo:vit_tiny", parse_target(XEON))
    described = tuned_graphs(network)
    untuned = dict(zip([k.name for k in network.kernels], network.graphs, strict=True))
    changed = [name for name, graph in described.items() if graph != untuned[name].graph]
    assert len(changed) == 2  # softmax and GELU
    for name in changed:
        assert {"exp", "erf"} & {each.opcode for each in untuned[name].graph.operators}
        assert not {"exp", "erf"} & {each.opcode for each in described[name].operators}


def test_a_processor_that_was_not_learned_is_named():
    found = estimated(EstimateOptions(), device="amd-epyc-zen3-2-cores")
    assert "amd-epyc-zen3" not in "".join(shipped_model().devices)
    assert not found.tuned[0].is_learned


def test_the_command_prints_both():
    result = run("estimate", "zoo:mlp", "--target", XEON, "--device", NAME)
    assert result.exit_code == 0, result.output
    assert " after 64 trials of each kernel that matters, 90 % interval " in result.stdout
    assert "× as fast, in about " in result.stdout
    assert " after 1,000 trials of each" in result.stdout
    header = " ".join(result.stdout.splitlines()[0].split())
    assert "share after 64 after 1,000 bound at peak" in header


@pytest.mark.parametrize(("given", "trials"), [("tuned", 64), ("tuned:16", 16)])
def test_the_command_takes_trials(given, trials, capfd):
    options = ("--target", XEON, "--device", NAME, "--schedules", given)
    text = run("estimate", "zoo:mlp", *options).stdout
    assert f" after {trials} trials of each kernel that matters" in text
    capfd.readouterr()
    assert run("estimate", "zoo:mlp", *options, "--json").exit_code == 0
    document = json.loads(capfd.readouterr().out)
    assert document["provenance"]["schedules"] == "tuned"
    assert document["tuned"][0]["trials"] == trials
    assert document["tuned"][0]["total_s"] == document["total_s"]


@pytest.mark.parametrize("given", ["tuned:", "tuned:0", "tuned:-3", "tuned:x", "tuned:²"])
def test_trials_must_be_a_number(given):
    with pytest.raises(InputError, match="TRIALS of --schedules tuned:TRIALS must be a number"):
        run("estimate", "zoo:mlp", "--schedules", given, catch_exceptions=False)


def test_trials_must_be_at_least_one():
    with pytest.raises(InputError, match="trials must be at least 1, got 0"):
        EstimateOptions("tuned", trials=0)


def test_between_tuned_kernels_lies_what_does_in_tuned_networks():
    calibrated = Overheads(Parameter(1e-6, 1e-7), Parameter(0.1, 0.1), residual=0.5, networks=9)
    for overheads in (DEFAULT_OVERHEADS, calibrated):
        found = between_tuned_kernels(overheads)
        assert found.launch_s == IN_NETWORK.launch_s
        assert found.cold_share == found.threads_s == Parameter(), "kernels were measured with both"
        assert found.residual == max(IN_NETWORK.residual, overheads.residual)
        assert found.networks == overheads.networks


def test_of_a_gpu_nothing_is_known():
    options = EstimateOptions("tuned")
    with pytest.raises(InputError, match="no network was tuned to learn from, got tuned"):
        estimate_network("zoo:mlp", "nvidia/nvidia-a100", "nvidia-a100-sxm4-40gb", options=options)
