"""Targets as users write them, and the devices behind them."""

import platform
from dataclasses import replace

import pytest

from costmodels.device import detect_host
from costmodels.errors import InputError
from costmodels.testing.example_data import example_device
from tvm_integration.compat import Target
from tvm_integration.identity import target_text
from tvm_integration.targets import device_of, host_target, parse_target


def test_the_host_is_detected():
    target = host_target()
    assert target.kind.name == "llvm"
    assert target_text(parse_target("host")) == target_text(target)
    assert device_of(target) == detect_host()


@pytest.mark.parametrize(
    "text",
    [
        "llvm -mcpu=haswell -num-cores=1",
        '{"kind": "llvm", "mcpu": "haswell", "num-cores": 1}',
    ],
)
def test_both_ways_to_write_a_target(text):
    target = parse_target(text)
    assert (str(target.attrs["mcpu"]), int(target.attrs["num-cores"])) == ("haswell", 1)


def test_llvm_without_more_is_this_host():
    assert target_text(parse_target("llvm")) == target_text(host_target())


def test_a_tag_of_tvm():
    assert parse_target("nvidia/nvidia-t4").kind.name == "cuda"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "target must be 'host'"),
        ("lvm -num-cores=2", "did you mean 'llvm -num-cores=2'?"),
        ("llvm mcpu=haswell", "must be -name=value"),
        ("llvm -mcpu=haswel", "for this host, got 'haswel': did you mean 'haswell'?"),
        ("llvm -mcpu=cortex-a72", "give -mtriple=aarch64-linux-gnu with it"),
        (
            "llvm -mtriple=aarch64-linux-gnu -mcpu=haswell",
            "for aarch64-linux-gnu, got 'haswell': it is one of another architecture, give "
            "-mtriple=x86_64-linux-gnu with it",
        ),
        ("llvm -num-cores=0", "num-cores must be at least 1"),
        ('{"kind": "llvm", }', "target must be 'host'"),
        ("llvm -no-such-option=1", "target must be 'host'"),
        ("", "target must be 'host'"),
    ],
)
def test_what_is_no_target_is_refused(text, message):
    with pytest.raises(InputError) as error:
        parse_target(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_device_shrinks_to_what_the_target_may_use():
    host = detect_host()
    small = device_of(Target({"kind": "llvm", "mcpu": "x86-64", "num-cores": 1}))
    assert small.cores == 1
    assert small.vector_bits == min(128, host.vector_bits)
    assert small.peak_flop_per_s < host.peak_flop_per_s


def test_another_device_comes_from_a_file(tmp_path):
    cuda = Target("nvidia/nvidia-t4")
    with pytest.raises(InputError, match="a device file must be given"):
        device_of(cuda)
    path = tmp_path / "device.toml"
    path.write_text(replace(example_device("t4"), kind="gpu").to_toml())
    assert device_of(cuda, path).name == "t4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("llvm -mtriple=nonsense", "mtriple must begin with an architecture that LLVM knows"),
        ("llvm -mtriple=x86_64-linux-gnu -mcpu=nonsense", "mcpu must be a processor that LLVM"),
        ("", "target must be 'host', a kind with options"),
    ],
)
def test_what_would_end_the_process_is_named(text, message):
    with pytest.raises(InputError, match=message):
        parse_target(text)


def test_a_device_of_another_architecture_or_kind_must_be_given(tmp_path):
    foreign = "s390x" if platform.machine() != "s390x" else "x86_64"
    target = parse_target(f"llvm -mtriple={foreign}-linux-gnu")
    with pytest.raises(InputError, match="a device file must be given for a target of another"):
        device_of(target)
    path = tmp_path / "device.toml"
    path.write_text(example_device().to_toml())
    assert device_of(target, path) == example_device()
    with pytest.raises(InputError, match="must be of a gpu for target kind 'cuda', got a cpu"):
        device_of(parse_target("cuda"), path)
