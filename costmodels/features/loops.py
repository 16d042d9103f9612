"""Loop nests -> what each stage fetches into caches of many sizes, its innermost loops and sums.

TVM's rows tell of each buffer how often it is touched, and one distance between two uses. How a
program is tiled, which is most of what schedules of one kernel differ in, shows in the loops one by
one: the bytes that the inner loops touch tell which of them a cache can hold, and the loops around
those tell how often its content is fetched anew. Both follow from extents and strides alone, as in
Ferrante et al., "On Estimating and Enhancing Cache Effectiveness", LCPC 1991.

A cache keeps a line in one of few places, told by its address: columns of a matrix whose rows are
4096 bytes long all want the same ones. Such conflict misses make the channels of an image of 32 x
32 points several times as slow to add up as those of others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from costmodels.features.schema import (
    ACCESSES_KEPT,
    CACHE_BYTES,
    CONFLICT_PERIODS,
    LOOP_COLUMNS,
    LOOP_KINDS,
    LOOPS_KEPT,
)
from costmodels.kernel import FloatArray, IndexArray, RowArray

LINE_BYTES = 64
PERIODS = ((2**14, 2**17, CONFLICT_PERIODS[0]), (2**18, 2**22, CONFLICT_PERIODS[1]))
"""(least, most, period) in bytes: in caches of these sizes, addresses a period apart share a set.
First-level caches look up a set while the page is translated, so it follows from the place in a
page of 4 KiB; second-level ones have 1024 sets or near it. Third-level caches hash the address."""
WAYS = 8
"""Lines of a set that a cache of most cores holds at least."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where a statement stores or loads.

    Parameters
    ----------
    element_bytes : int
        Of the buffer.
    shape : tuple of int
        Of the buffer, the last dimension first.
    spans : tuple of tuple (dimension, loop, span)
        How far the access moves along a dimension from the first to the last iteration of a loop,
        in elements; the innermost loop is 0.
    """

    element_bytes: int
    shape: tuple[int, ...]
    spans: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class LoopNest:
    """The loops around the statement of a stage.

    Parameters
    ----------
    extents : tuple of int
        The innermost first; loops of one iteration left out.
    kinds : tuple of int
        Of each loop, position in `costmodels.features.schema.LOOP_KINDS`, or -1 for a plain one.
    reductions : tuple of bool
        Whether iterations of a loop add up.
    accesses : tuple of Access
        The store first, then loads.
    """

    extents: tuple[int, ...]
    kinds: tuple[int, ...]
    reductions: tuple[bool, ...]
    accesses: tuple[Access, ...]


@dataclass(frozen=True)
class _Nests:
    """Loop nests side by side, filled up with loops of one iteration that move nothing.

    Attributes
    ----------
    extents : numpy.ndarray
        float64 [nests, loops].
    spans : numpy.ndarray
        float64 [nests, accesses, dimensions, loops].
    shapes : numpy.ndarray
        float64 [nests, accesses, dimensions]; 1 beyond the dimensions of a buffer.
    element_bytes : numpy.ndarray
        float64 [nests, accesses]; 0 where there is none.
    """

    extents: FloatArray
    spans: FloatArray
    shapes: FloatArray
    element_bytes: FloatArray

    @classmethod
    def of(cls, nests: Sequence[LoopNest]) -> "_Nests":
        """Lay nests side by side."""
        loops = max([1, *(len(nest.extents) for nest in nests)])
        dimensions = max([1, *(len(a.shape) for nest in nests for a in nest.accesses)])
        extents = np.ones((len(nests), loops))
        shapes = np.ones((len(nests), ACCESSES_KEPT, dimensions))
        element_bytes = np.zeros((len(nests), ACCESSES_KEPT))
        places: list[tuple[int, int, int, int]] = []
        values: list[int] = []
        for number, nest in enumerate(nests):
            extents[number, : len(nest.extents)] = nest.extents
            for position, access in enumerate(nest.accesses[:ACCESSES_KEPT]):
                shapes[number, position, : len(access.shape)] = access.shape
                element_bytes[number, position] = access.element_bytes
                for dimension, loop, span in access.spans:
                    places.append((number, position, dimension, loop))
                    values.append(span)
        spans = np.zeros((len(nests), ACCESSES_KEPT, dimensions, loops))
        if places:
            spans[tuple(np.array(places).T)] = values
        return cls(extents, spans, np.maximum(shapes, 1.0), element_bytes)

    @property
    def moves(self) -> NDArray[np.bool_]:
        """bool [nests, accesses, loops]; whether an access depends on a loop."""
        return np.asarray(self.spans.any(axis=2))

    @cached_property
    def lines(self) -> FloatArray:
        """float64 [nests, accesses, loops + 1]; cache lines that the innermost n loops touch."""
        reached: FloatArray = np.cumsum(self.spans, axis=3) + 1.0
        reach = np.minimum(_with_one(reached), self.shapes[..., None])
        run = reach[:, :, 0]
        runs = np.ones_like(run)
        whole: NDArray[np.bool_] = run >= self.shapes[:, :, 0, None]
        for dimension in range(1, reach.shape[2]):  # whole rows lie one behind the other
            own = reach[:, :, dimension]
            run = np.where(whole, run * own, run)
            runs = np.where(whole, runs, runs * own)
            whole = np.logical_and(whole, own >= self.shapes[:, :, dimension, None])
        touched = runs * np.ceil(run * self.element_bytes[..., None] / LINE_BYTES)
        # In large strides not all between first and last is touched: each iteration adds no more
        # than those of the loops inside.
        iterations = np.where(self.moves, self.extents[:, None, :], 1.0)
        for loop in range(iterations.shape[2]):
            most = touched[:, :, loop] * iterations[:, :, loop]
            touched[:, :, loop + 1] = np.minimum(touched[:, :, loop + 1], most)
        return np.asarray(touched * (self.element_bytes > 0)[..., None])

    def fetched(self) -> FloatArray:
        """float64 [nests, accesses, loops + 1]; lines fetched where what n loops touch is kept.

        Loops right around them that do not move the access find all of its lines; the first that
        does finds those it shares with its last iteration, and those around it find none.
        """
        lines = self.lines
        found = lines.copy()
        outside = np.ones(len(self.extents))
        for loop in reversed(range(self.extents.shape[1])):
            found[:, :, loop] = np.where(
                self.moves[:, :, loop],
                lines[:, :, loop + 1] * outside[:, None],
                found[:, :, loop + 1],
            )
            outside = outside * self.extents[:, loop]
        return found

    def sets(self, period: int) -> FloatArray:
        """float64 [nests, accesses, loops + 1]; sets of a cache that the innermost n loops touch.

        Parameters
        ----------
        period : int
            Bytes after which the sets repeat.
        """
        steps, places = self._walks
        many = places > 1
        step = (steps % period)[many]
        keys = step * (period + 1) + np.minimum(places, period)[many]
        found, where = np.unique(keys, return_inverse=True)
        known = np.array([_sets_of(*divmod(int(key), period + 1), period) for key in found])
        each = np.ones(places.shape)
        each[many] = known[where]
        # Steps with a common divisor never reach what lies between its multiples.
        divisors = np.full(places.shape, period)
        divisors[many] = np.where(known[where] > 1, np.gcd(step, period), period)
        reached = period // np.maximum(np.gcd.reduce(divisors, axis=2), LINE_BYTES)
        sets = _with_one(np.minimum(np.prod(each, axis=2), reached))
        return np.asarray(np.minimum(sets, np.maximum(self.lines, 1.0)))

    @cached_property
    def _walks(self) -> tuple[IndexArray, IndexArray]:
        """int64 [nests, accesses, dimensions, loops] each; how the innermost loops walk along each.

        Bytes from one place to the next, and places: as many as iterations, or until the end.
        """
        moved = self.spans > 0
        extents = self.extents[:, None, None, :]
        unit = np.where(moved, self.spans / np.maximum(extents - 1.0, 1.0), np.inf)
        unit = np.maximum(np.rint(np.minimum.accumulate(unit, axis=3)), 1.0)
        unit = np.where(np.isfinite(unit), unit, 1.0)
        places = np.minimum(
            np.cumprod(np.where(moved, extents, 1.0), axis=3),
            np.floor(np.cumsum(self.spans, axis=3) / unit) + 1.0,
        )
        steps = unit * (self._steps() * self.element_bytes[..., None])[..., None]
        return steps.astype(np.int64), places.astype(np.int64)

    def _steps(self) -> FloatArray:
        """float64 [nests, accesses, dimensions]; elements from one place to the next."""
        sizes = np.cumprod(self.shapes, axis=2)
        return np.concatenate([np.ones_like(sizes[:, :, :1]), sizes[:, :, :-1]], axis=2)

    def strides(self) -> FloatArray:
        """float64 [nests, accesses, loops]; elements from one iteration of a loop to the next."""
        moved = (self.spans * self._steps()[..., None]).sum(axis=2)
        return np.asarray(moved / np.maximum(self.extents - 1.0, 1.0)[:, None, :])


@lru_cache(maxsize=1 << 16)
def _sets_of(step: int, extent: int, period: int) -> int:
    """Sets that so many accesses, so many bytes apart, touch."""
    places = np.arange(min(extent, period // math.gcd(step, period))) * step % period
    return len(np.unique(places // LINE_BYTES))


def _with_one(values: FloatArray) -> FloatArray:
    """Put a 1 before the first of the last axis."""
    return np.concatenate([np.ones((*values.shape[:-1], 1)), values], axis=-1)


def loop_features(nests: Sequence[LoopNest], *, on_cpu: bool = True) -> RowArray:
    """Describe loop nests.

    Parameters
    ----------
    nests : sequence of LoopNest
        Of stages.
    on_cpu : bool
        On a GPU, whose threads take the loops apart and wait for different things at once, lines
        crowd no sets and sums do not wait for each other.

    Returns
    -------
    numpy.ndarray
        float32 [nests, columns of `costmodels.features.schema.LOOP_COLUMNS`], scaled.
    """
    if not nests:
        return np.empty((0, len(LOOP_COLUMNS)), np.float32)
    laid = _Nests.of(nests)
    sums = np.array([_sums(nest) if on_cpu else (0.0,) * 3 for nest in nests], np.float64)
    counts = np.hstack([_traffic(laid, on_cpu), _innermost(laid, nests), sums])
    return np.log2(counts + 1.0).astype(np.float32)  # of a flag: the flag


def _traffic(nests: _Nests, on_cpu: bool) -> FloatArray:
    """float64 [nests, columns]; lines fetched into caches of each size, those in all, conflicts."""
    lines = nests.lines
    held = lines.sum(axis=1)
    fetched = nests.fetched()
    sets = [nests.sets(period) if on_cpu else np.maximum(lines, 1.0) for _, _, period in PERIODS]
    sharing = [lines / each for each in sets]
    level: IndexArray = np.zeros(lines.shape[:2], np.int64)
    columns = []
    for size in CACHE_BYTES:
        # The innermost loops whose lines fit together; what the statement touches always counts.
        fits = np.broadcast_to((held * LINE_BYTES <= size)[:, None, :], lines.shape)
        for (least, most, period), in_a_set in zip(PERIODS, sharing, strict=True):
            if size <= most:
                fits = np.logical_and(fits, in_a_set <= max(size, least) / period)
        loops = np.logical_and.accumulate(fits, axis=2).sum(axis=2) - 1
        level = np.maximum(level, loops)  # what a smaller cache holds a larger one has as well
        at = np.take_along_axis(fetched, level[..., None], axis=2)[..., 0]
        columns += [at[:, 0], at[:, 1:].sum(axis=1)]
    crowded = [
        _crowded_sets(each, in_a_set > WAYS, period // LINE_BYTES)
        for each, in_a_set, (_, _, period) in zip(sets, sharing, PERIODS, strict=True)
    ]
    return np.column_stack([*columns, held[:, -1], *crowded])


def _crowded_sets(sets: FloatArray, is_crowded: NDArray[np.bool_], most: int) -> FloatArray:
    """float64 [nests]; sets that the access with the fewest has where they are first too few."""
    first = np.argmax(is_crowded, axis=2)[..., None]
    found = np.take_along_axis(np.where(is_crowded, sets, most), first, axis=2)
    return np.asarray(found[..., 0].min(axis=1))


def _innermost(laid: _Nests, nests: Sequence[LoopNest]) -> FloatArray:
    """float64 [nests, loops * columns]; of the innermost loops."""
    width = 2 + len(LOOP_KINDS) + ACCESSES_KEPT
    found = np.zeros((len(nests), LOOPS_KEPT, width))
    kept = min(LOOPS_KEPT, laid.extents.shape[1])
    found[:, :kept, 2 + len(LOOP_KINDS) :] = laid.strides()[:, :, :kept].transpose(0, 2, 1)
    for number, nest in enumerate(nests):
        inner = zip(nest.extents, nest.reductions, nest.kinds, strict=True)
        for loop, (extent, is_reduction, kind) in enumerate(islice(inner, kept)):
            found[number, loop, :2] = extent, is_reduction
            if kind >= 0:
                found[number, loop, 2 + kind] = 1.0
    return found.reshape(len(nests), -1)


def _sums(nest: LoopNest) -> tuple[float, float, float]:
    """How the innermost reduction adds up: additions in a row to one sum, sums and lanes at a time.

    An addition waits for the one before it to the same sum: that takes some cycles, in which only
    other sums can be added to.
    """
    length = apart = lanes = 1.0
    vectorized = LOOP_KINDS.index("vectorized")
    is_inside = False
    for extent, is_reduction, kind in zip(nest.extents, nest.reductions, nest.kinds, strict=True):
        if is_reduction:
            is_inside = True
            length *= extent
        elif is_inside:
            break
        elif kind == vectorized:
            lanes *= extent
        else:
            apart *= extent
    return (length, apart, lanes) if is_inside else (0.0, 0.0, 0.0)
