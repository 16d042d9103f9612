"""Arguments of kernels hold numbers as networks have them; indices are valid and varied."""

import numpy as np
import pytest
from tvm.script import tirx as T

from tvm_integration import WarmBuilder, WarmRunner
from tvm_integration.compat import (
    BuilderInput,
    RunnerInput,
    Schedule,
    Target,
    meta_schedule,
    normalize_prim_func,
    tvm,
)
from tvm_integration.measure.kernel_arguments import (
    allocate_arguments,
    read_ranges,
    whole_number_ranges,
)

te, topi = tvm.te, tvm.topi
TARGET = Target({"kind": "llvm", "num-cores": 1})


def module_of(*tensors):
    return normalize_prim_func(te.create_prim_func(list(tensors)))


def embedding(rows=5000, width=512, tokens=64, dtype="int64"):
    table = te.placeholder((rows, width), name="table")
    tokens = te.placeholder((tokens,), dtype, name="tokens")
    picked = te.compute((*tokens.shape, width), lambda i, j: table[tokens[i], j], name="picked")
    return module_of(table, tokens, picked)


def test_an_index_lies_within_what_it_points_into():
    assert whole_number_ranges(embedding()) == [None, (0, 5000), None]


def test_an_index_is_followed_through_casts_copies_and_wrapping():
    table = te.placeholder((300, 8), name="table")
    tokens = te.placeholder((16,), "int64", name="tokens")
    copied = te.compute((16,), lambda i: tokens[i].astype("int32"), name="copied")
    wrapped = te.compute(
        (16,),
        lambda i: tvm.tirx.Select(copied[i] < 0, copied[i] + 300, copied[i]),
        name="wrapped",
    )
    picked = te.compute((16, 8), lambda i, j: table[wrapped[i], j], name="picked")
    assert whole_number_ranges(module_of(table, tokens, picked))[1] == (0, 300)


def test_a_shifted_index_stays_inside():
    table = te.placeholder((300,), name="table")
    tokens = te.placeholder((16,), "int32", name="tokens")
    picked = te.compute((16,), lambda i: table[tokens[i] + 10], name="picked")
    scaled = te.compute((16,), lambda i: table[tokens[i] * 2], name="scaled")
    assert whole_number_ranges(module_of(table, tokens, picked))[1] == (0, 290)
    assert whole_number_ranges(module_of(table, tokens, scaled))[1] == (0, 1)


def test_the_smallest_of_several_tables_counts():
    tokens = te.placeholder((16,), "int32", name="tokens")
    tables = [te.placeholder((rows,), name=f"table{rows}") for rows in (400, 200)]
    summed = te.compute((16,), lambda i: tables[0][tokens[i]] + tables[1][tokens[i]], name="sum")
    assert whole_number_ranges(module_of(tokens, *tables, summed))[0] == (0, 200)


def test_scattered_values_stay_inside_the_result():
    @T.prim_func(s_tir=True)
    def scatter(
        where: T.Buffer((16,), "int64"),
        what: T.Buffer((16,), "float32"),
        out: T.Buffer((90,), "float32"),
    ):
        for i in range(16):
            with T.sblock("scatter"):
                v = T.axis.spatial(16, i)
                out[where[v]] = what[v]

    assert whole_number_ranges(normalize_prim_func(scatter)) == [(0, 90), None, None]


def test_masks_are_mixed_and_divisors_are_not_zero():
    a, b = (te.placeholder((16,), "int32", name=name) for name in "ab")
    mask = te.placeholder((16,), "bool", name="mask")
    quotient = te.compute(
        (16,), lambda i: tvm.tirx.Select(mask[i], tvm.tirx.truncdiv(a[i], b[i]), 0), name="c"
    )
    assert whole_number_ranges(module_of(a, b, mask, quotient))[:3] == [(0, 128), (1, 128), (0, 2)]


def test_floats_alone_have_no_ranges():
    a = te.placeholder((16,), name="a")
    assert whole_number_ranges(module_of(a, te.compute((16,), lambda i: a[i] + 1))) is None


def test_a_scheduled_kernel_has_the_ranges_of_its_workload():
    schedule = Schedule(embedding())
    block = schedule.get_sblock("picked")
    staged = schedule.cache_read(block, 1, "global")
    schedule.parallel(schedule.get_loops(staged)[0])
    assert whole_number_ranges(schedule.mod) == [None, (0, 5000), None]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool"])
def test_whole_numbers_are_varied_and_within_their_range(dtype):
    values = (0, 2) if dtype == "bool" else (3, 90)
    ((array,),) = allocate_arguments(tvm.cpu(), [["TENSOR", dtype, [64, 64]]], 1, ranges=[values])
    held = array.numpy().astype(int)
    assert held.min() == values[0]
    assert held.max() == values[1] - 1
    assert len(np.unique(held)) == values[1] - values[0]


def test_a_lookup_is_measured_with_varied_indices():
    """Zeros would read one row again and again, from the nearest cache."""
    kernel = embedding(rows=20000, width=1024, tokens=4096)
    builder = WarmBuilder(max_workers=1)
    (built,) = builder.build([BuilderInput(kernel, TARGET)])
    builder.close()
    path = str(built.artifact_path)
    assert read_ranges(path) == [None, (0, 20000), None]
    arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(kernel, remove_preproc=True)
    seconds = {}
    for name, options in (
        ("varied", {}),
        ("zeros", {"f_alloc_argument": lambda *given: allocate_arguments(*given)}),
    ):
        runner = WarmRunner(**options)
        (future,) = runner.run([RunnerInput(path, "cpu", arguments)])
        runner.close()
        result = future.result()
        assert result.error_msg is None
        seconds[name] = min(float(each) for each in result.run_secs)
    assert seconds["varied"] > 1.3 * seconds["zeros"]


@pytest.mark.parametrize(("dtype", "values"), [("float32", None), ("bool", (0, 2))])
def test_numbers_do_not_come_again_while_a_processor_remembers_them(dtype, values):
    """With 65,536 of them a branch took 0.7 of what it takes in a network."""
    ((array,),) = allocate_arguments(
        tvm.cpu(), [["TENSOR", dtype, [1 << 20]]], 1, ranges=[values] if values else None
    )
    held = array.numpy()
    for distance in (1 << power for power in range(19)):
        assert np.mean(held[distance:] == held[:-distance]) < 0.51
    later = allocate_arguments(tvm.cpu(), [["TENSOR", dtype, [1 << 20]]] * 2, 2)[1][1].numpy()
    assert np.mean(later == held) < 0.51


def test_without_ranges_whole_numbers_are_zeros():
    """With TVM's random integers an embedding reads outside its table and crashes."""
    arguments = [["TENSOR", "int64", [2, 3]], ["TENSOR", "float32", [4]], ["TENSOR", "bool", [2]]]
    (first, second) = allocate_arguments(tvm.cpu(), arguments, 2)
    for indices, values, flags in (first, second):
        assert indices.dtype == "int64"
        assert not indices.numpy().any()
        assert values.numpy().any()
        assert flags.shape == (2,)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_floats_are_of_the_size_of_activations(dtype):
    ((scalar, values),) = allocate_arguments(
        tvm.cpu(), [["TENSOR", dtype, []], ["TENSOR", dtype, [300, 1000]]], 1
    )
    assert scalar.shape == ()
    assert values.shape == (300, 1000)
    assert values.dtype == dtype
    if dtype != "bfloat16":  # numpy has none
        held = values.numpy().astype(float)
        assert 0.09 < held.std() < 0.11, "as weights: a product with the first is not far above 1"
        assert 0.4 < np.mean(held > 0) < 0.6
        assert abs(held).min() > 0


def test_arguments_differ_within_a_set_and_between_sets():
    arguments = [["TENSOR", "float32", [64, 64]]] * 3
    sets = allocate_arguments(tvm.cpu(), arguments, 2)
    held = [argument.numpy().ravel() for each in sets for argument in each]
    assert len({values.tobytes() for values in held}) == 6
    assert np.std(held[0]) == pytest.approx(1.0, abs=0.05)
    assert abs(np.corrcoef(held)[np.triu_indices(6, 1)]).max() < 0.1
