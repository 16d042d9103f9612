"""Every term is a time that grows with what it stands for, whatever else is in the batch."""

from dataclasses import replace

import numpy as np
import pytest

from costmodels.device import Device
from costmodels.features.schema import CACHE_BYTES, PER_STORE
from costmodels.kernel import KernelBatch, Task
from costmodels.testing.example_data import example_dataset, example_device
from halide_style.features import (
    HALIDE_SCHEDULE_FEATURES,
    OPERATIONS,
    PARTS,
    halide_inputs,
    operator_histogram,
)
from halide_style.stages import Stages
from halide_style.terms import TERMS, term_seconds

BY_NAME = {term.name: term for term in TERMS}


def one_stage(device: Device | None = None, **counts: float) -> Stages:
    """A stage with these columns, given as counts; ``__`` stands for the dot."""
    row = np.zeros((1, len(PER_STORE.columns)), np.float32)
    for name, value in counts.items():
        column = name.replace("__", ".")
        position = PER_STORE.index[column]
        scaled = PER_STORE.columns[position].scale != "0 or 1"
        row[0, position] = np.log2(value + 1) if scaled else value
    task = Task("t", device or example_device())
    return Stages(KernelBatch(PER_STORE, row, np.array([0, 1]), (task,), np.zeros(1, np.int64)))


def seconds(name, stages):
    (value,) = BY_NAME[name].seconds(stages)
    return value


LOOPS = {"loops__extent_product": 4096, "total__operations": 8192}
VECTOR = {"vectorize__loops": 1, "vectorize__extent_product": 8, "vectorize__innermost_extent": 8}
READ = {"buffer0__is_read": 1, "buffer0__lines": 512, "buffer0__unique_lines": 64}
WRITTEN = {"buffer0__is_write": 1, "buffer0__bytes": 8192, "buffer0__unique_bytes": 4096}


def test_vectors_of_eight_take_an_eighth_of_the_time():
    scalar = seconds("scalar_compute", one_stage(**LOOPS))
    vector = seconds("vector_compute", one_stage(**LOOPS, **VECTOR))
    assert scalar == pytest.approx(8 * vector, rel=1e-5)
    assert scalar == pytest.approx(8192 / 2.5e9, rel=1e-5)
    assert seconds("vector_compute", one_stage(**LOOPS)) == 0.0


def test_a_loop_shorter_than_a_vector_wastes_lanes():
    short = {**VECTOR, "vectorize__innermost_extent": 5}
    assert one_stage(**LOOPS, **short).lanes[0] == 5
    longer = {**VECTOR, "vectorize__innermost_extent": 12}
    assert one_stage(**LOOPS, **longer).lanes[0] == 6


def test_additions_to_one_sum_take_four_cycles_each():
    one = one_stage(**LOOPS, sum__length=64, sum__apart=1, sum__lanes=1)
    four = one_stage(**LOOPS, sum__length=64, sum__apart=4, sum__lanes=1)
    assert seconds("waiting_sums", one) == pytest.approx(4 * one.points[0] * one.cycle_s[0])
    assert seconds("waiting_sums", four) == pytest.approx(seconds("waiting_sums", one) / 4)
    assert seconds("waiting_sums", one_stage(**LOOPS)) == 0.0


@pytest.mark.parametrize(("tasks", "share"), [(1, 1), (2, 0.5), (3, 2 / 3), (64, 0.5)])
def test_the_busiest_core_sets_the_pace(tasks, share):
    stages = one_stage(**LOOPS, parallel__extent_product=tasks, parallel__loops=1)
    assert stages.serial_share[0] == pytest.approx(share)


def test_idle_cores_cost_what_the_others_wait_for():
    even = one_stage(**LOOPS, parallel__extent_product=2)
    uneven = one_stage(**LOOPS, parallel__extent_product=3)
    assert seconds("idle_cores", even) == pytest.approx(0.0)
    assert seconds("idle_cores", uneven) > 0


def test_lines_that_a_cache_holds_are_fetched_once():
    """Of 1024 lines that a loop of 64 KiB goes through eight times."""
    fetched = {f"traffic__loaded_{size}": 8192 if size < 1 << 16 else 1024 for size in CACHE_BYTES}
    device = replace(example_device(), l1_bytes=1 << 15, l2_bytes=1 << 17, clock_hz=1e9)
    stages = one_stage(device, **READ, **fetched, traffic__touched=1024)
    cycle_s = stages.cycle_s[0]
    assert seconds("lines_touched", stages) == pytest.approx(8192 * cycle_s, rel=1e-4)
    assert seconds("lines_beyond_l1", stages) == pytest.approx(4 * 8192 * cycle_s, rel=1e-4)
    assert seconds("lines_beyond_l2", stages) == pytest.approx(10 * 1024 * cycle_s, rel=1e-4)


def test_lines_that_crowd_one_set_wait_for_each_other():
    fetched = {f"traffic__loaded_{size}": 8192 for size in CACHE_BYTES}
    one, four, all_there_are = (
        one_stage(**READ, **fetched, traffic__touched=1024, conflict__sets_4096=sets)
        for sets in (1, 4, 64)
    )
    assert seconds("crowded_lines", one) == pytest.approx(
        4 * seconds("crowded_lines", four), rel=1e-3
    )
    assert seconds("crowded_lines", four) > 0.0
    assert seconds("crowded_lines", all_there_are) == 0.0
    assert seconds("crowded_lines", one_stage(**READ, **fetched)) == 0.0  # loops not known


def test_between_two_sizes_of_caches_lines_are_interpolated():
    fetched = {f"traffic__loaded_{size}": 100 if size < 1 << 20 else 25 for size in CACHE_BYTES}
    stages = one_stage(**READ, **fetched, traffic__touched=25)
    sizes = (0, 1 << 18, 1 << 19, 1 << 20, 1 << 60)
    found = [stages.loaded_lines(np.array([float(size)]))[0] for size in sizes]
    assert found == pytest.approx([100, 100, 50, 25, 25], rel=0.02)


def test_where_loops_are_not_known_every_touch_counts():
    stages = one_stage(**READ)
    (lines,) = stages.loaded_lines(np.array([1e6]))
    assert lines == pytest.approx(stages.buffers("lines")[0, 0])


def test_pieces_that_write_into_one_line_share_it():
    apart = one_stage(**LOOPS, **WRITTEN, parallel__extent_product=4)
    shared = one_stage(**LOOPS, **WRITTEN, parallel__extent_product=1024)
    assert seconds("false_sharing", apart) == 0.0
    assert seconds("false_sharing", shared) > 0.0


def test_a_gather_touches_no_more_than_it_reads():
    """TVM takes all that an index can reach for touched: 13 TB, for one."""
    stages = one_stage(
        buffer0__is_read=1, buffer0__bytes=4096, buffer0__unique_bytes=2**43, buffer0__lines=64
    )
    assert stages.buffers("unique_bytes")[0, 0] == 4096
    assert seconds("unique_bytes_read", stages) == pytest.approx(4096 / 3e10, rel=1e-5)


def test_threads_cost_only_where_there_are_some():
    alone, parallel = one_stage(**LOOPS), one_stage(**LOOPS, parallel__extent_product=64)
    for name in ("parallel_launch", "per_task"):
        assert seconds(name, alone) == 0.0
        assert seconds(name, parallel) > 0.0


def test_pages_are_counted_from_the_bytes_written():
    assert seconds("page_faults", one_stage(**WRITTEN)) == pytest.approx(2.5e-7, rel=1e-4)


def test_all_terms_are_finite_and_never_negative_whatever_the_rows():
    batch = example_dataset(np.random.default_rng(0)).batch
    for rows in (batch.rows, np.full_like(batch.rows, 1e4), np.zeros_like(batch.rows)):
        found = term_seconds(Stages(replace(batch, rows=rows)))
        assert found.shape == (len(rows), len(TERMS))
        assert np.all(np.isfinite(found))
        assert np.all(found >= 0)


def test_a_row_means_the_same_in_every_batch():
    batch = example_dataset(np.random.default_rng(0)).batch
    whole = halide_inputs(batch)
    alone = halide_inputs(batch.take([5]))
    start, stop = batch.row_offsets[5:7]
    np.testing.assert_allclose(alone, whole[start:stop], rtol=1e-6)
    assert whole.shape[1] == sum(PARTS)


def test_no_kernel_has_no_terms():
    batch = example_dataset(np.random.default_rng(0)).batch.take([])
    assert halide_inputs(batch).shape == (0, sum(PARTS))


def test_the_histogram_is_in_shares():
    batch = example_dataset(np.random.default_rng(0)).batch
    found = operator_histogram(Stages(batch))
    assert found.shape == (len(batch.rows), len(OPERATIONS))
    np.testing.assert_allclose(found.sum(axis=1), 1.0)


def test_every_term_says_what_it_is_and_where_it_comes_from():
    assert len(BY_NAME) == len(TERMS)
    for term in TERMS:
        assert term.formula
        assert term.source


def test_each_of_halides_39_features_has_columns_or_a_reason():
    assert len(HALIDE_SCHEDULE_FEATURES) == 39
    names = set(PER_STORE.names)
    for feature, source in HALIDE_SCHEDULE_FEATURES.items():
        if source.startswith("missing: "):
            continue
        quantities = {name.split(".")[1] for name in names} | {"vector_bits"}
        words = source.replace(",", " ").replace("*", " ").split()
        known = [
            w for w in words if w in names or w in quantities or w[:7] in ("compute", "device.")
        ]
        assert known, f"{feature}: {source} names no column"
