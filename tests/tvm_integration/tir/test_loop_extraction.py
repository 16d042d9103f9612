"""Loops of scheduled programs: what splits, fusions and annotations make of them."""

import numpy as np
import pytest
from search_tasks import TARGET, matmul

from costmodels.features.loops import Access
from costmodels.features.schema import LOOP_KINDS, PER_STORE
from tvm_integration.compat import MeasureCandidate, Schedule, meta_schedule
from tvm_integration.tir.features import FeatureExtractor
from tvm_integration.tir.stages import StageExtractor

PLAIN = -1
PARALLEL, VECTORIZED, UNROLLED = map(LOOP_KINDS.index, ("parallel", "vectorized", "unrolled"))


def nest_of(mod, schedule):
    (nest,) = StageExtractor(mod).extract(schedule.mod).nests
    return nest


def test_the_unscheduled_product():
    mod = matmul(64)
    nest = nest_of(mod, Schedule(mod))
    assert nest.extents == (64, 64, 64)
    assert nest.kinds == (PLAIN,) * 3
    assert nest.reductions == (True, False, False)
    store, *reads = nest.accesses
    assert store == Access(4, (64, 64), ((0, 1, 63), (1, 2, 63)))
    assert set(reads) == {
        Access(4, (64, 64), ((0, 0, 63), (1, 2, 63))),
        Access(4, (64, 64), ((0, 1, 63), (1, 0, 63))),
    }


def test_tiles_in_another_order():
    mod = matmul(64)
    schedule = Schedule(mod)
    block = schedule.get_sblock("C")
    i, j, k = schedule.get_loops(block)
    j_outer, j_inner = schedule.split(j, [None, 16])
    k_outer, k_inner = schedule.split(k, [None, 4])
    schedule.reorder(i, j_outer, k_outer, k_inner, j_inner)
    schedule.parallel(i)
    schedule.vectorize(j_inner)
    schedule.unroll(k_inner)
    nest = nest_of(mod, schedule)
    assert nest.extents == (16, 4, 16, 4, 64)
    assert nest.kinds == (VECTORIZED, UNROLLED, PLAIN, PLAIN, PARALLEL)
    assert nest.reductions == (False, True, True, False, False)
    assert nest.accesses[0].spans == ((0, 3, 48), (0, 0, 15), (1, 4, 63))


def test_a_fused_loop_is_taken_apart():
    mod = matmul(64)
    schedule = Schedule(mod)
    i, j, _ = schedule.get_loops(schedule.get_sblock("C"))
    outer, inner = schedule.split(j, [None, 16])
    schedule.parallel(schedule.fuse(i, outer))
    del inner
    nest = nest_of(mod, schedule)
    assert nest.extents == (64, 16, 256)
    assert nest.accesses[0].shape == (64, 64)
    # The fused loop moves rows by 63, and within a row by three tiles of 16.
    assert sorted(nest.accesses[0].spans) == [(0, 1, 15), (0, 2, 48), (1, 2, 63)]


def test_loops_of_one_iteration_are_left_out():
    mod = matmul(64)
    schedule = Schedule(mod)
    i, *_ = schedule.get_loops(schedule.get_sblock("C"))
    schedule.split(i, [None, 64])
    assert nest_of(mod, schedule).extents == (64, 64, 64)


@pytest.mark.parametrize("tile", [4, 16])
def test_a_tiled_product_fetches_less(tile):
    """Tiles of both matrices in a cache of 32 KiB: each element is fetched once per other tile."""
    mod = matmul(512)
    fetched = []
    for tiled in (False, True):
        schedule = Schedule(mod)
        i, j, k = schedule.get_loops(schedule.get_sblock("C"))
        if tiled:
            loops = [schedule.split(each, [None, tile]) for each in (i, j, k)]
            schedule.reorder(*(outer for outer, _ in loops), *(inner for _, inner in loops))
        context = meta_schedule.TuneContext(mod, target=TARGET, num_threads=1)
        (program,) = FeatureExtractor().programs(context, [MeasureCandidate(schedule, [])])
        column = program.rows[0, PER_STORE.index["traffic.loaded_32768"]]
        fetched.append(np.exp2(np.float64(column)) - 1)
    assert fetched[0] > tile / 4 * fetched[1]
