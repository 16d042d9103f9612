"""What loops fetch equals what counting iteration by iteration gives."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels.features.loops import Access, LoopNest, _Nests, loop_features
from costmodels.features.schema import CACHE_BYTES, LOOP_COLUMNS, LOOP_KINDS

NAMES = [column.name for column in LOOP_COLUMNS]


def described(nest, **options):
    """Column -> count."""
    (row,) = loop_features([nest], **options)
    return dict(zip(NAMES, np.exp2(row.astype(np.float64)) - 1.0, strict=True))


def plain(extents, *accesses, kinds=None, reductions=None):
    return LoopNest(
        tuple(extents),
        kinds or (-1,) * len(extents),
        reductions or (False,) * len(extents),
        accesses,
    )


def matmul(i, j, k):
    """C[i, j] += A[i, k] * B[k, j], loops i, j, k, the last innermost."""
    return plain(
        (k, j, i),
        Access(4, (j, i), ((0, 1, j - 1), (1, 2, i - 1))),
        Access(4, (k, i), ((0, 0, k - 1), (1, 2, i - 1))),
        Access(4, (j, k), ((0, 1, j - 1), (1, 0, k - 1))),
        reductions=(True, False, False),
    )


def test_a_matrix_product():
    """64 x 64 floats: 4 lines a row, 256 lines a matrix."""
    found = described(matmul(64, 64, 64))
    small, middle, large = 256, 2**14, 2**17
    # The statement alone fits: for each j a row of A, and a line of B for each of the iterations.
    assert found[f"traffic.loaded_{small}"] == pytest.approx(64 * 64 * 4 + 64**3, rel=1e-4)
    # The store moves on with j: 16 of its iterations share a line.
    assert found[f"traffic.stored_{small}"] == pytest.approx(64 * 4, rel=1e-4)
    # Loop k fits, a row of A and a column of B: the row stays for all j, and 16 of these share
    # the lines of a column.
    assert found[f"traffic.loaded_{middle}"] == pytest.approx(64 * 4 + 64 * 256, rel=1e-4)
    assert found[f"traffic.loaded_{large}"] == pytest.approx(2 * 256, rel=1e-4)
    assert found["traffic.touched"] == pytest.approx(3 * 256, rel=1e-4)


@pytest.mark.parametrize(
    ("columns", "rows", "sets"), [(1024, 255, (1, 16)), (1000, 255, None), (1024, 8, None)]
)
def test_columns_whose_lines_share_a_set(columns, rows, sets):
    """Rows of 4096 bytes: their lines drive each other out before the next column needs them."""
    found = described(matmul(16, columns, rows))
    of_b = found["traffic.loaded_32768"] / (16 * columns * rows)  # lines for each read of B
    assert of_b == pytest.approx(1 if sets == (1, 16) else 1 / 16, rel=0.05)
    told = found["conflict.sets_4096"], found["conflict.sets_65536"]
    assert told == pytest.approx(sets or (64, 1024), rel=1e-4)
    found = described(matmul(16, columns, rows), on_cpu=False)
    of_b = found["traffic.loaded_32768"] / (16 * columns * rows)
    assert of_b == pytest.approx(1 / 16, rel=0.05)
    told = found["conflict.sets_4096"], found["conflict.sets_65536"]
    assert told == pytest.approx((64, 1024), rel=1e-4)


def test_additions_that_wait_for_each_other():
    found = described(matmul(8, 16, 32))  # k innermost: one sum at a time
    assert [found[f"sum.{name}"] for name in ("length", "apart", "lanes")] == pytest.approx(
        [32, 1, 1], rel=1e-5
    )
    tiled = plain(
        (16, 4, 32, 2, 8),
        kinds=(LOOP_KINDS.index("vectorized"), -1, -1, -1, -1),
        reductions=(False, False, True, True, False),
    )
    found = described(tiled)
    assert [found[f"sum.{name}"] for name in ("length", "apart", "lanes")] == pytest.approx(
        [64, 4, 16], rel=1e-5
    )
    found = described(tiled, on_cpu=False)  # other threads have something to do
    assert [found[f"sum.{name}"] for name in ("length", "apart", "lanes")] == [0, 0, 0]
    found = described(plain((16, 8)))  # nothing is added up
    assert [found[f"sum.{name}"] for name in ("length", "apart", "lanes")] == [0, 0, 0]


def test_innermost_loops():
    nest = plain(
        (16, 8),
        Access(4, (16, 8), ((0, 0, 15), (1, 1, 7))),
        Access(4, (32, 8), ((0, 0, 30), (1, 1, 7))),
        kinds=(1, 0),
        reductions=(False, True),
    )
    found = described(nest)
    assert found["loop0.extent"] == pytest.approx(16)
    assert found["loop0.is_vectorized"] == 1
    assert found["loop0.is_parallel"] == 0
    assert found["loop1.is_parallel"] == 1
    assert found["loop1.is_reduction"] == 1
    assert [found[f"loop0.stride_{n}"] for n in range(4)] == pytest.approx([1, 2, 0, 0])
    assert found["loop1.stride_1"] == pytest.approx(32, rel=1e-6)
    assert found["loop2.extent"] == 0


def test_none_and_many_at_once():
    assert loop_features([]).shape == (0, len(LOOP_COLUMNS))
    nests = [matmul(8, 8, 8), plain((5,), Access(8, (5,), ((0, 0, 4),))), plain(())]
    together = loop_features(nests)
    for nest, row in zip(nests, together, strict=True):
        np.testing.assert_array_equal(loop_features([nest])[0], row)
    assert np.all(np.isfinite(together))


@st.composite
def tiled(draw):
    """A dimension or two, each split into an outer and an inner loop; loops in any order."""
    sizes = draw(st.lists(st.tuples(st.integers(2, 6), st.integers(2, 20)), min_size=1, max_size=2))
    loops = [
        (dimension, extent, step)
        for dimension, (outer, inner) in enumerate(sizes)
        for extent, step in ((outer, inner), (inner, 1))
    ]
    loops = draw(st.permutations(loops))
    shape = tuple(outer * inner for outer, inner in sizes)
    spans = tuple((d, n, (extent - 1) * step) for n, (d, extent, step) in enumerate(loops))
    nest = plain([extent for _, extent, _ in loops], Access(4, shape, spans))
    return nest, loops, shape


@given(
    st.integers(1, 20),
    st.integers(2, 40),
    st.integers(1, 3000),
    st.booleans(),
    st.sampled_from([4096, 65536]),
)
@settings(max_examples=100, deadline=None)
def test_sets_are_those_that_counting_finds(outer, inner, columns, is_swapped, period):
    """A column, its loop split into two: whatever the distance of its rows."""
    loops = [(inner, 1), (outer, inner)]
    if is_swapped:
        loops.reverse()
    access = Access(
        4,
        (columns, outer * inner),
        tuple((1, n, (extent - 1) * step) for n, (extent, step) in enumerate(loops) if extent > 1),
    )
    nests = _Nests.of([plain([extent for extent, _ in loops], access)])
    sets = {row * columns * 4 % period // 64 for row in range(outer * inner)}
    assert nests.sets(period)[0, 0, -1] == len(sets)


@given(tiled())
@settings(max_examples=60, deadline=None)
def test_lines_are_those_that_counting_finds(drawn):
    """Whole dimensions are touched in the end, and no cache fetches less than that."""
    nest, loops, shape = drawn
    found = described(nest)
    touched = set()
    for index in product(*(range(extent) for _, extent, _ in loops)):
        place = [0] * len(shape)
        for (dimension, _, step), value in zip(loops, index, strict=True):
            place[dimension] += value * step
        touched.add(sum(p * s for p, s in zip(place, np.cumprod((1, *shape[:-1])), strict=True)))
    lines = len({element * 4 // 64 for element in touched})
    assert found["traffic.touched"] == pytest.approx(lines, rel=1e-4)
    stored = [found[f"traffic.stored_{size}"] for size in CACHE_BYTES]
    assert all(a >= b * (1 - 1e-4) for a, b in pairwise(stored))
    assert stored[-1] == pytest.approx(lines, rel=1e-4)
