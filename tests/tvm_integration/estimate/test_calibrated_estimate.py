"""What calibration changes of an estimate: bias, single kernels, intervals."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from network_checks import SMALL_NETWORK
from typer.testing import CliRunner

from costmodels.device import read_device
from costmodels.errors import InputError
from costmodels.load_model import load_kernel_model
from costmodels.network_models.discrepancy import Discrepancy
from costmodels.network_models.overheads import Overheads, Parameter
from costmodels.network_models.unseen_families import pretrained_factors
from tvm_integration.cli.app import app
from tvm_integration.estimate.estimate import EstimateOptions, estimate_network
from tvm_integration.estimate.network_features import describe_module
from tvm_integration.estimate.overheads_file import Calibrated, load_overheads, save_overheads
from tvm_integration.frontends.torch_program import from_torch
from tvm_integration.targets import device_of

BARE = EstimateOptions(overheads="none")
"""Kernels alone."""

pytestmark = pytest.mark.usefixtures("own_cache")


def run(*arguments, **options):
    return CliRunner().invoke(app, list(map(str, arguments)), **options)


def test_a_bias_shows_in_the_kernels_too(network, target):
    model, device = load_kernel_model("pretrained:best", seed=0), device_of(target)
    plain = estimate_network(network, target, device, model, BARE)
    overheads = Overheads(Parameter(1e-6), bias=0.5)
    found = estimate_network(network, target, device, model, EstimateOptions(overheads=overheads))
    assert found.total.kernels_s == pytest.approx(np.exp(0.5) * plain.total.kernels_s)
    parts = sum(kernel.count * kernel.latency.latency_s for kernel in found.kernels)
    assert found.total.total_s == pytest.approx(parts + found.total.launches_s)
    assert found.provenance["overheads"]["bias"] == 0.5


def test_calibrated_intervals_are_those_of_unseen_families(network, target):
    """Of a pretrained model, by its target: 16 cores were never learned from, so none narrows."""
    model, device = load_kernel_model("pretrained:best", seed=0), device_of(target)
    learned = replace(device, cores=2, vector_bits=512)
    other = replace(device, cores=16)
    (own,) = (
        each
        for each in pretrained_factors("pretrained:best")
        if (each.cores, each.vector_bits, each.schedules) == (2, 512, "default")
    )

    def used(overheads, where, name="pretrained:best"):
        options = EstimateOptions(overheads=overheads)
        found = estimate_network(network, target, where, model, options, model_name=name)
        return found.provenance["overheads"]["unseen_factor"]

    calibrated = Overheads(networks=9)
    assert used(calibrated, learned) == own.factor
    assert used(calibrated, other) >= 1
    assert used(Overheads(), learned) == 1  # typical ones are wide enough
    assert used(calibrated, learned, name="my.ckpt") == 1


def test_kernels_measured_on_the_device_correct_untuned_ones(network, target):
    model, device = load_kernel_model("pretrained:best", seed=0), device_of(target)
    plain = estimate_network(network, target, device, model, BARE)
    batch = network.batch(device)
    families = [frozenset({str(kernel % 5)}) for kernel in range(len(batch))]
    error, deviation = np.full(len(batch), 0.3), np.full(len(batch), 0.3)
    discrepancy, _ = Discrepancy.learn(batch, error, deviation, families)
    options = EstimateOptions(overheads=Overheads(discrepancy=discrepancy))
    found = estimate_network(network, target, device, model, options)
    assert 1.1 < found.total.kernels_s / plain.total.kernels_s < np.exp(0.31)
    parts = sum(kernel.count * kernel.latency.latency_s for kernel in found.kernels)
    assert found.total.kernels_s == pytest.approx(parts)
    kept = found.provenance["overheads"]["discrepancy"]
    assert kept == {"kernels": len(batch), "spread": discrepancy.spread}


def test_the_command_says_by_how_many_kernels_it_corrects(network, target, tmp_path):
    batch = network.batch(device_of(target))
    weights = (0.1,) * len(batch)
    discrepancy = Discrepancy(((1.0, 0.1, 1.0),) * len(batch), weights)
    path = tmp_path / "overheads.json"
    of = Calibrated.of(target, device_of(target), "pretrained:best")
    save_overheads(path, Overheads(networks=18, discrepancy=discrepancy), of)
    result = run("estimate", SMALL_NETWORK, "--overheads", path)
    assert f"corrected by {len(batch)} measured kernels, as calibrated" in result.stdout
    assert "corrected" not in run("estimate", SMALL_NETWORK).stdout


def test_the_way_to_calibrate_is_of_this_model_and_target():
    text = run("estimate", "zoo:mlp", "--cost-model", "pretrained:halide").stdout
    assert "`costmodels calibrate --quick --cost-model pretrained:halide`" in text
    text = run("estimate", "zoo:mlp", "--target", "llvm -mcpu=x86-64 -num-cores=1").stdout
    assert "calibrate --quick --target 'llvm -mcpu=x86-64 -num-cores=1'`" in text
    text = run("estimate", "zoo:mlp", "--device", "amd-epyc-zen3-2-cores").stdout
    assert "`costmodels calibrate` on the device itself" in text


def test_a_disturbed_calibration_is_told_with_each_estimate(target, tmp_path):
    path = tmp_path / "overheads.json"
    of = Calibrated.of(target, device_of(target), "pretrained:best")
    save_overheads(path, Overheads(kernels=60, disturbance=1.4), of)
    text = run("estimate", "zoo:mlp", "--overheads", path).stdout
    assert "(calibrated on kernels alone, while the machine was disturbed: do it again)" in text


def test_a_calibration_is_not_used_for_another_model_and_warns_of_another_device(
    target, tmp_path, caplog
):
    path, found = tmp_path / "overheads.json", Overheads(kernels=60)
    best = Calibrated.of(target, device_of(target), "pretrained:best")
    save_overheads(path, found, best)
    assert load_overheads(path, best) == found
    assert load_overheads(path, replace(best, model="the/same.ckpt")) == found
    for other in (
        Calibrated.of(target, device_of(target), "paleo"),
        replace(best, weights="other"),
        replace(best, weights=""),
    ):
        with pytest.raises(InputError, match=r"must be of .*, got those of pretrained:best"):
            load_overheads(path, other)
    assert not caplog.records
    assert load_overheads(path, replace(best, device="another", cores=7)) == found
    assert f"was calibrated for device {best.device}, and is used for another" in caplog.text
    assert f"was calibrated for cores {best.cores}, and is used for 7" in caplog.text
    path.write_text(json.dumps(asdict(found)))  # as earlier releases wrote it
    assert load_overheads(path, best) == found
    for damaged in ("[]", "{}", json.dumps({**asdict(found), "calibrated": {"model": "x"}})):
        path.write_text(damaged)
        with pytest.raises(InputError, match="must be what `costmodels calibrate` writes"):
            load_overheads(path, best)


def test_untuned_programs_of_a_gpu_are_refused():
    with pytest.raises(InputError, match="database or model on a GPU, where no program runs unt"):
        run(
            *("estimate", "zoo:mlp", "--target", "cuda", "--device", "nvidia-h200"),
            catch_exceptions=False,
        )


def test_a_kernel_larger_than_those_learned_has_an_interval_that_holds(target):
    """GPT-2's head: a Zen 4 with two threads took 1,130 ms, an older build one of 1,273."""
    module = from_torch(
        "head", torch.nn.Linear(768, 50257, bias=False), (torch.zeros(1, 16, 768),), {}
    ).module
    device = read_device("amd-epyc-zen4-2-cores")
    found = estimate_network(
        describe_module(module, target),
        target,
        device,
        load_kernel_model("pretrained:best", seed=0),
        BARE,
    )
    assert found.total.low_s < 1.13 < 1.273 < found.total.high_s < 10.0


@pytest.mark.parametrize(
    "change",
    [{"bias": 1e9}, {"bias": "x"}, {"residual": None}, {"launch_s": {"value": -1.0}}]
    + [{"common_error": -50}, {"bias": float("nan")}, {"networks": True}],
)
def test_overheads_that_make_no_sense_are_named(change, tmp_path):
    path = tmp_path / "overheads.json"
    path.write_text(json.dumps(asdict(Overheads()) | change))
    with pytest.raises(InputError, match=r"must be a number|must be what `costmodels calibrate`"):
        run("estimate", "zoo:mlp", "--overheads", path, catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "-1"], "minutes must be above 0, got -1"),
        (["--minutes", "nan"], "minutes must be above 0, got nan"),
        (["--out", "."], "must be a file to write, got a folder"),
        (["--out", "a" * 300], "must be a file that can be written, got: File name too long"),
    ],
)
def test_calibrate_names_bad_input_before_it_measures(arguments, message):
    with pytest.raises(InputError, match=message):
        run("calibrate", *arguments, catch_exceptions=False)
