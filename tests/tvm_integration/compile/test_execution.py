"""Running, comparing, measuring and exporting a built network."""

import ast
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sampled_database import fused, network, sampled_database

from costmodels.errors import InputError
from tvm_integration import zoo
from tvm_integration.compat import Target, tvm
from tvm_integration.compile import execution
from tvm_integration.compile.build import build
from tvm_integration.compile.execution import (
    check_library_path,
    compare_outputs,
    device_of,
    export,
    measure_s,
    run,
)

PERCEPTRON = "zoo:mlp"
TRANSFORMER = "zoo:bert_tiny,sequence=16"


@pytest.fixture(scope="module")
def perceptron():
    return build(fused(PERCEPTRON), sampled_database(PERCEPTRON))


@pytest.fixture(scope="module")
def transformer():
    return build(fused(TRANSFORMER))


# Comparing


def test_large_integers_are_compared_exactly():
    large = np.array([2**60 + 1])
    assert compare_outputs([large], [large.copy()]).match
    assert not compare_outputs([large], [large - 1]).match


# Running


def test_outputs_are_flat_and_in_the_references_order(transformer):
    inputs = network(TRANSFORMER).inputs
    got = run(transformer, inputs)
    assert [x.shape for x in got] == [(1, 16, 128), (1, 128)]
    assert compare_outputs(got, network(TRANSFORMER).reference.run(inputs)).match


def test_inputs_are_read_not_written_and_need_not_be_contiguous(perceptron):
    inputs = network(PERCEPTRON).inputs
    wide = np.repeat(inputs[0], 2, axis=1)
    kept = wide.copy()
    assert np.array_equal(run(perceptron, [wide[:, ::2]])[0], run(perceptron, inputs)[0])
    assert np.array_equal(wide, kept)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([], "inputs must be 1 arrays, got 0: give input"),
        (
            [np.zeros((2, 784), "float32")],
            "input input must be float32 of shape (1, 784), got float32 of shape (2, 784): "
            "convert it first",
        ),
        (
            [np.zeros((1, 784))],
            "input input must be float32 of shape (1, 784), got float64 of shape (1, 784): "
            "convert it first",
        ),
    ],
)
def test_wrong_inputs(perceptron, inputs, text):
    with pytest.raises(InputError) as error:
        run(perceptron, inputs)
    assert str(error.value) == text


def test_device():
    assert device_of(Target("llvm")) == tvm.cpu(0)
    cuda = Target({"kind": "cuda", "arch": "sm_80"})
    if tvm.cuda(0).exist:
        assert device_of(cuda) == tvm.cuda(0)
        return
    with pytest.raises(InputError) as error:
        device_of(cuda)
    assert str(error.value) == (
        "target must be of a device of this machine to run, got cuda and no such device: "
        "give the target llvm, or run it where the device is"
    )


# Measuring


def test_latency_is_in_seconds(perceptron):
    seconds = measure_s(perceptron, network(PERCEPTRON).inputs, repeat=4, min_repeat_ms=5)
    assert len(seconds) == 4
    # 2.6 Mflop: between one Tflop/s and one Mflop/s.
    assert all(1e-6 < s < 1 for s in seconds)


# Comparing


def arrays(*values, dtype="float32"):
    return [np.array(v, dtype) for v in values]


def test_equal_outputs_match():
    check = compare_outputs(arrays([1, 2], [3]), arrays([1, 2], [3]))
    assert check.match
    assert check.max_abs == check.max_rel == 0.0
    assert check.reason == ""


def test_differences_are_relative_to_the_largest_value():
    expected = arrays([1000.0, 0.001])
    # Tiny elements of an output are sums that cancel: what counts is the output's scale.
    assert compare_outputs(arrays([1000.0, 0.5]), expected).match
    check = compare_outputs(arrays([1002.0, 0.001]), expected)
    assert not check.match
    assert check.max_abs == pytest.approx(2.0, rel=1e-3)
    assert check.max_rel == pytest.approx(2e-3, rel=1e-3)
    assert check.reason == "output 0 differs by 0.002 of its largest value, more than 0.001"


@pytest.mark.parametrize(
    ("dtype", "close", "far"),
    [("float64", 1e-9, 1e-7), ("float32", 5e-4, 2e-3), ("float16", 1e-2, 1e-1)],
)
def test_tolerance_depends_on_the_type(dtype, close, far):
    expected = arrays([1.0, -1.0], dtype=dtype)
    assert compare_outputs(arrays([1.0 + close, -1.0], dtype=dtype), expected).match
    assert not compare_outputs(arrays([1.0 + far, -1.0], dtype=dtype), expected).match
    assert compare_outputs(arrays([1.0 + far, -1.0], dtype=dtype), expected, tolerance=1).match


def test_integers_and_booleans_must_be_equal():
    assert compare_outputs(arrays([5, 7], dtype="int64"), arrays([5, 7], dtype="int64")).match
    assert not compare_outputs(arrays([5, 8], dtype="int64"), arrays([5, 7], dtype="int64")).match
    assert not compare_outputs(arrays([True], dtype="bool"), arrays([False], dtype="bool")).match


@pytest.mark.parametrize(
    ("got", "expected", "match"),
    [
        ([np.nan, 1], [np.nan, 1], True),
        ([np.inf, 1], [np.inf, 1], True),
        ([-np.inf, 1], [np.inf, 1], False),
        ([np.nan, 1], [0, 1], False),
        ([0, 1], [np.nan, 1], False),
        ([np.inf, 1], [0, 1], False),
        ([np.nan], [np.nan], True),
        ([0, 0], [0, 0], True),
        ([0, 1e-2], [0, 0], False),
        ([], [], True),
    ],
)
def test_values_that_are_no_numbers_and_zeros(got, expected, match):
    check = compare_outputs(arrays(got), arrays(expected))
    assert check.match == match
    assert not np.isnan(check.max_abs)
    assert not np.isnan(check.max_rel)


@pytest.mark.parametrize(
    ("got", "expected", "reason"),
    [
        (arrays([1]), arrays([1], [2]), "1 outputs instead of 2"),
        (arrays([1]), arrays([[1]]), "output 0 is float32[1] instead of float32[1, 1]"),
        (
            arrays([1]),
            arrays([1], dtype="float64"),
            "output 0 is float32[1] instead of float64[1]",
        ),
    ],
)
def test_outputs_of_another_form_do_not_match(got, expected, reason):
    check = compare_outputs(got, expected)
    assert not check.match
    assert check.reason == reason
    assert check.max_abs == np.inf


def test_a_wrong_kernel_is_noticed():
    """One missing tap of one convolution, of the twenty of a ResNet-18."""
    broken, inputs = zoo.build("resnet18", image=32)
    whole, _ = zoo.build("resnet18", image=32)
    with torch.no_grad():
        broken.blocks[5].second[0].weight[:, :, 0, 0] = 0
        check = compare_outputs([broken(*inputs).numpy()], [whole(*inputs).numpy()])
    assert not check.match
    assert check.max_rel > 1e-2


# Exporting


def test_the_printed_lines_load_and_run_the_library_elsewhere(perceptron, tmp_path):
    path = tmp_path / "mlp.so"
    lines = export(perceptron, path)
    assert [x.name for x in tmp_path.iterdir()] == ["mlp.so"]
    assert "costmodels" not in "\n".join(lines)
    assert any("warns of the scope of each constant" in line for line in lines)
    array = tmp_path / "x.npy"
    np.save(array, network(PERCEPTRON).inputs[0])
    code = "\n".join(lines).replace("np.zeros((1, 784), 'float32')", f"np.load({str(array)!r})")
    code += "\nprint(outputs.numpy().ravel().tolist())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    expected = run(perceptron, network(PERCEPTRON).inputs)[0].ravel()
    np.testing.assert_array_equal(np.float32(ast.literal_eval(done.stdout)), expected)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mlp.onnx", "library must end in .so or .tar, got '{}/mlp.onnx': add the ending"),
        ("folder.so", "library must be a file, got the directory '{}/folder.so': name a file"),
        (
            "nowhere/mlp.so",
            "library must be in a directory that can be written, got '{}/nowhere' (No such file "
            "or directory): make it first, or choose another place",
        ),
    ],
)
def test_paths_that_cannot_be_a_library(tmp_path, name, text):
    (tmp_path / "folder.so").mkdir()
    with pytest.raises(InputError) as error:
        check_library_path(tmp_path / name)
    assert str(error.value) == text.format(tmp_path)


def test_a_failed_export_leaves_the_old_file_and_nothing_else(perceptron, tmp_path):
    path = tmp_path / "mlp.so"
    path.write_text("the old library")

    class FullDisk:
        def export_library(self, path, **_options):
            Path(path).write_text("half a libr")
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError) as error:
        export(replace(perceptron, executable=FullDisk()), path)
    assert str(error.value) == (
        f"library must be written to {path}, got OSError: [Errno 28] No space left on device: "
        "free some space there, or choose another place"
    )
    assert path.read_text() == "the old library"
    assert [x.name for x in tmp_path.iterdir()] == ["mlp.so"]


def test_a_disk_without_room_is_noticed_before_llvm_ends_the_process(
    perceptron, tmp_path, monkeypatch
):
    assert perceptron.weight_bytes > 4 * 784 * 10
    nearly_full = namedtuple("Usage", "free")(3 * perceptron.weight_bytes)
    monkeypatch.setattr(execution.shutil, "disk_usage", lambda _: nearly_full)
    with pytest.raises(InputError, match=r"must have \d+ MiB free to write .*mlp\.so, got \d+ MiB"):
        export(perceptron, tmp_path / "mlp.so")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ({"kind": "c"}, "got 'c': give the target llvm"),
        (
            {"kind": "llvm", "mtriple": "riscv64-unknown-linux-gnu"},
            "got mtriple 'riscv64-unknown-linux-gnu': leave -mtriple out",
        ),
        ({"kind": "llvm", "num-cores": 100000}, "got 100000: give -num-cores="),
    ],
)
def test_targets_that_this_machine_cannot_measure(target, text):
    with pytest.raises(InputError) as error:
        execution.check_runs_here(Target(target))
    assert text in str(error.value)


def test_a_tar_can_be_exported(perceptron, tmp_path):
    export(perceptron, tmp_path / "mlp.tar")
    library = tvm.runtime.load_module(str(tmp_path / "mlp.tar"))
    machine = tvm.relax.VirtualMachine(library, tvm.cpu())
    inputs = network(PERCEPTRON).inputs
    got = machine["main"](tvm.runtime.tensor(inputs[0])).numpy()
    assert compare_outputs([got], run(perceptron, inputs)).match


def test_lines_for_a_gpu(perceptron):
    cuda = Target({"kind": "cuda", "arch": "sm_80"})
    lines = execution._loading_lines(replace(perceptron, target=cuda), Path("net.so"))
    assert "network = relax.VirtualMachine(library, tvm.device('cuda', 0))" in lines
    compile("\n".join(lines), "lines", "exec")
